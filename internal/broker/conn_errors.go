package broker

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"

	"github.com/nats-io/nats.go"

	"firstcome/internal/sale"
)

// ErrTooOld is wrapped when the server lacks something that waiting will not bring.
var ErrTooOld = errors.New("the NATS server will not do")

// ErrRefused is wrapped when the server does not take this client, or does not
// allow it what it needs. Waiting does not help.
var ErrRefused = errors.New("NATS refuses this client")

// ErrSettings is wrapped when the connection cannot be made as it is set up: a file
// or a context is missing or is not what it should be, or a URL cannot be read.
var ErrSettings = errors.New("the settings of the connection are wrong")

// ErrCut is wrapped when the stored history lacks a part of itself: an instance that
// began on the rest could sell what was sold.
var ErrCut = errors.New("the history is cut")

// ErrOldStore is wrapped when a store was made by an earlier firstcome.
var ErrOldStore = errors.New("the store is of an earlier firstcome, which keeps its ledger in another place: finish its sale with that version, then begin with an empty store directory or NATS account")

// ErrMissing is wrapped when something does not exist that only an admin makes.
var ErrMissing = errors.New("run firstcome provision or firstcome repair as an admin")

// Final tells whether err is one that waiting does not mend, as it does for a
// cluster that is merely not there yet.
func Final(err error) bool {
	for _, final := range []error{ErrTooOld, ErrRefused, ErrSettings, ErrDrift, ErrNoProduct, ErrCut, ErrOldStore, ErrLimit, ErrMark, ErrMissing, sale.ErrNewer} {
		if errors.Is(err, final) {
			return true
		}
	}
	return false
}

// check tries the options that read files, before anybody is asked.
func (o *Options) check() error {
	for _, option := range o.identity() {
		if err := option(&nats.Options{}); err != nil {
			return fmt.Errorf("%w: %w", ErrSettings, err)
		}
	}
	return nil
}

// connectError tells a client that is not wanted, or that lacks its own files,
// from a cluster that is not there yet.
func connectError(err error) error {
	if err == nil {
		return nil
	}
	for _, final := range []error{nats.ErrAuthorization, nats.ErrAuthExpired, nats.ErrAuthRevoked, nats.ErrAccountAuthExpired,
		nats.ErrSecureConnWanted, nats.ErrSecureConnRequired} {
		if errors.Is(err, final) {
			return fmt.Errorf("connect to NATS: %w: %w", ErrRefused, err)
		}
	}
	var (
		certificate *tls.CertificateVerificationError
		authority   x509.UnknownAuthorityError
		host        x509.HostnameError
		alert       *net.OpError // "remote error" is the server's word on our certificate
	)
	if errors.As(err, &certificate) || errors.As(err, &authority) || errors.As(err, &host) ||
		errors.As(err, &alert) && alert.Op == "remote error" {
		return fmt.Errorf("connect to NATS: %w: %w", ErrRefused, err)
	}
	if unread := (*url.Error)(nil); errors.As(err, &unread) { // it quotes the URL, which may hold a password
		return fmt.Errorf("connect to NATS: %w: the URL of a server cannot be read", ErrSettings)
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) { // the .creds file is read when it is needed
		return fmt.Errorf("connect to NATS: %w: %w", ErrSettings, err)
	}
	return fmt.Errorf("connect to NATS: %w", err)
}

// Permitted runs f with a context that ends as soon as the server denies this
// client a subject. The error then wraps ErrRefused and names the subject: a
// request that is not allowed gets no answer, and would look like a timeout. It is
// meant for the beginning: a denial stays with the connection.
func (c *Conn) Permitted(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.denied, cancel)()
	err := f(ctx)
	if err != nil && c.denied.Err() != nil {
		return fmt.Errorf("%w: %w", ErrRefused, context.Cause(c.denied))
	}
	return err
}
