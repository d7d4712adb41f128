package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// authority signs certificates, and writes them as PEM files.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	a.sign("ca", &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

// sign makes a key and its certificate, NAME.key and NAME.crt.
func (a *authority) sign(name string, cert *x509.Certificate) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	cert.SerialNumber = big.NewInt(time.Now().UnixNano())
	cert.Subject = pkix.Name{CommonName: name}
	cert.NotBefore, cert.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	if a.cert == nil {
		a.cert, a.key = cert, key // signs itself
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, a.cert, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{name + ".crt": {Type: "CERTIFICATE", Bytes: der}, name + ".key": {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(a.file(file), pem.EncodeToMemory(block), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
}

// With the includes of tls.conf switched on, servers and instances know each other
// by certificate, and others are refused.
func TestProductionWithTLS(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it starts a cluster")
	}
	ca, stranger := newAuthority(t), newAuthority(t)
	ca.sign("node", &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}})
	for _, a := range []*authority{ca, stranger} {
		a.sign("app", &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	}
	dir := t.TempDir()
	for _, name := range []string{"server.conf", "accounts.conf", "tls.conf"} {
		text, err := os.ReadFile(configFile("nats", name))
		if err != nil {
			t.Fatal(err)
		}
		const off, on = "# include tls.conf\n", "include tls.conf\n"
		if name == "server.conf" && strings.Count(string(text), off) != 2 {
			t.Fatalf("%s has not two includes to switch on", name)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.ReplaceAll(string(text), off, on)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := newSite(t, filepath.Join(dir, "server.conf"),
		"NATS_TLS_CERT="+ca.file("node.crt"), "NATS_TLS_KEY="+ca.file("node.key"), "NATS_TLS_CA="+ca.file("ca.crt"))
	s.urls = strings.ReplaceAll(s.urls, "nats://", "tls://")

	trust := "FIRSTCOME_NATS_TLS_CA=" + ca.file("ca.crt")
	papers := func(a *authority) []string {
		return []string{"FIRSTCOME_NATS_TLS_CERT=" + a.file("app.crt"), "FIRSTCOME_NATS_TLS_KEY=" + a.file("app.key")}
	}
	good := append(papers(ca), trust)
	serve := []string{"serve", "--config", configFile("cluster.yaml")}
	finish(t, with(s.as("admin", "provision", "--config", configFile("cluster.yaml")), good...)).want(t, 0, "ready: tshirt")
	sale := serving(begin(t, with(s.as("app", serve...), good...)))
	sale.buy("ann@example.com", 1).order(t)
	sale.sold(1)
	sale.stop()

	finish(t, s.as("app", serve...)).want(t, 1, "certificate signed by unknown authority")
	finish(t, with(s.as("app", serve...), "FIRSTCOME_NATS_TLS_CA="+stranger.file("ca.crt"))).want(t, 1, "certificate signed by unknown authority")
	finish(t, with(s.as("app", serve...), trust)).want(t, 1, "certificate required")
	finish(t, with(s.as("app", serve...), append(papers(stranger), trust)...)).want(t, 1, "tls: ")
	finish(t, with(s.as("app", serve...), append(papers(ca), "FIRSTCOME_NATS_TLS_CA=/nowhere/ca.crt")...)).want(t, 2, "/nowhere/ca.crt")
}
