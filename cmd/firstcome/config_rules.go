package main

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"firstcome/internal/sale"
	"firstcome/internal/web"
)

const (
	maxGroup     = 1000 // so that the largest group fits into one message of 1 MiB
	maxGroupWait = time.Second
	maxInFlight  = 64
	maxReplicas  = 5 // the broker's own bound

	// Each connection has a buffer for its headers.
	minHeader, maxHeader = 1 << 10, 64 << 10
	minIdle              = time.Second
	minSync              = time.Millisecond
)

var (
	// instanceName is what a link's "by" may be.
	instanceName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)
	hostName     = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$`)
)

// validate says everything that is wrong with c, each with its key. A config
// that passes can be used without looking at its ranges again.
func (c config) validate() error { return joined(c.check()) }

func (c config) check() []problem {
	var r rules
	if c.Instance.Name != "" && !instanceName.MatchString(c.Instance.Name) {
		r.fail("instance.name", "must be letters, digits, dots, underscores and hyphens, at most 64, is %q", c.Instance.Name)
	}
	r.listen("http.listen", c.HTTP.Listen)
	r.hosts("http.hosts", c.HTTP.Hosts)
	for i, o := range c.HTTP.AllowedOrigins {
		r.check(index("http.allowed_origins", i), web.CheckOrigin(o))
	}
	for i, p := range c.HTTP.TrustedProxies {
		r.check(index("http.trusted_proxies", i), web.CheckProxy(p))
	}
	r.between("http.max_header_bytes", c.HTTP.MaxHeaderBytes, minHeader, maxHeader)
	r.atLeast("http.idle_timeout", c.HTTP.IdleTimeout, minIdle)
	r.listen("ops.listen", c.Ops.Listen)
	r.hosts("ops.hosts", c.Ops.Hosts)
	r.nats(c.NATS)
	r.atLeast("worker.processing_time", c.Worker.ProcessingTime, 0)
	r.between("group.max_orders", c.Group.MaxOrders, 1, maxGroup)
	if c.Group.MaxWait <= 0 || c.Group.MaxWait > maxGroupWait {
		r.fail("group.max_wait", "must be above 0s and at most %s, is %s", maxGroupWait, c.Group.MaxWait)
	}
	r.between("group.in_flight", c.Group.InFlight, 1, maxInFlight)
	r.from("queue.max_messages", c.Queue.MaxMessages, 1)
	r.products(c.Products)
	r.from("limits.per_address", int64(c.Limits.PerAddress), 0)
	r.from("limits.per_buyer", int64(c.Limits.PerBuyer), 0)
	r.from("limits.sockets_per_address", int64(c.Limits.SocketsPerAddress), 0)
	r.from("limits.sockets_per_buyer", int64(c.Limits.SocketsPerBuyer), 0)
	r.from("book.max_orders", int64(c.Book.MaxOrders), 1)
	r.oneOf("auth.mode", c.Auth.Mode, "open")
	r.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	r.oneOf("log.format", c.Log.Format, "text", "json")
	return r.broken
}

// rules collects what is broken.
type rules struct{ broken []problem }

func (r *rules) fail(key, format string, args ...any) {
	r.broken = append(r.broken, problem{key: key, text: fmt.Sprintf(format, args...)})
}

func (r *rules) between(key string, n, low, high int) {
	if n < low || n > high {
		r.fail(key, "must be from %d to %d, is %d", low, high, n)
	}
}

func (r *rules) from(key string, n, low int64) {
	if n < low {
		r.fail(key, "must be %d or more, is %d", low, n)
	}
}

func (r *rules) atLeast(key string, d, low time.Duration) {
	if d < low {
		r.fail(key, "must be %s or more, is %s", low, d)
	}
}

func (r *rules) oneOf(key, word string, words ...string) {
	if !slices.Contains(words, word) {
		r.fail(key, "must be %s, is %q", strings.Join(words, " or "), word)
	}
}

// both blames the one that was given for the one that is missing: that has no line.
func (r *rules) both(section, a, valueA, b, valueB string) {
	if (valueA == "") == (valueB == "") {
		return
	}
	given := a
	if valueA == "" {
		given = b
	}
	r.fail(join(section, given), "%s and %s belong together: set both or neither", a, b)
}

func (r *rules) listen(key, address string) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		r.fail(key, "must be host:port such as 127.0.0.1:4000, is %q", address)
		return
	}
	if host != "" && !isHost(host) {
		r.fail(key, "%q is neither an IP address nor a host name", host)
	}
	if !isPort(port) {
		r.fail(key, "%q is not a port from 0 to 65535", port)
	}
}

func (r *rules) hosts(key string, names []string) {
	for i, name := range names {
		r.check(index(key, i), web.CheckHost(name))
	}
}

func isHost(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil || hostName.MatchString(host)
}

func isPort(port string) bool {
	_, err := strconv.ParseUint(port, 10, 16)
	return err == nil
}

// isHostPort is about the host of a URL, which may come without a port.
func isHostPort(u *url.URL) bool {
	return isHost(u.Hostname()) && !strings.HasSuffix(u.Host, ":") && (u.Port() == "" || isPort(u.Port()))
}

// check takes another package's word on a value.
func (r *rules) check(key string, err error) {
	if err != nil {
		r.fail(key, "%s", err)
	}
}

func (r *rules) nats(c natsConfig) {
	if c.URL != "" {
		for i, server := range strings.Split(c.URL, ",") {
			r.server("nats.url", i+1, strings.TrimSpace(server))
		}
	}
	r.path("nats.credentials", c.Credentials)
	r.path("nats.tls.ca", c.TLS.CA)
	r.path("nats.tls.cert", c.TLS.Cert)
	r.path("nats.tls.key", c.TLS.Key)
	r.both("nats.tls", "cert", c.TLS.Cert, "key", c.TLS.Key)
	r.both("nats", "user", c.User, "password", string(c.Password))
	if c.User != "" && c.Token != "" {
		r.fail("nats.token", "set either a token or user and password")
	}
	alone := c.URL == "" && c.Embedded.Config == ""
	if c.Replicas < 1 || c.Replicas > maxReplicas || c.Replicas%2 == 0 {
		r.fail("nats.replicas", "must be 1, 3 or 5, is %d", c.Replicas)
	} else if c.Replicas > 1 && alone {
		r.fail("nats.replicas", "%d copies need a cluster: set nats.url or nats.embedded.config", c.Replicas)
	}
	r.listen("nats.embedded.listen", c.Embedded.Listen)
	r.path("nats.embedded.store_dir", c.Embedded.StoreDir)
	if c.Embedded.StoreDir == "" && alone {
		r.fail("nats.embedded.store_dir", "must name a directory")
	}
	if c.Embedded.Sync != syncAlways {
		if d, err := time.ParseDuration(c.Embedded.Sync); err != nil || d < minSync {
			r.fail("nats.embedded.sync", "must be %s or an interval of at least %s such as 2m, is %q", syncAlways, minSync, c.Embedded.Sync)
		}
	}
	r.path("nats.embedded.config", c.Embedded.Config)
}

// unasked finds what an instance would show to nobody: its own server, without a
// file that brings users, lets everybody in. The commands have no server of their own.
func unasked(c config) []problem {
	var r rules
	if c.NATS.URL != "" || c.NATS.Embedded.Config != "" {
		return nil
	}
	for _, given := range []struct{ key, value string }{
		{"nats.credentials", c.NATS.Credentials}, {"nats.user", c.NATS.User}, {"nats.token", string(c.NATS.Token)},
		{"nats.tls.ca", c.NATS.TLS.CA}, {"nats.tls.cert", c.NATS.TLS.Cert},
	} {
		if given.value != "" {
			r.fail(given.key, "the embedded server asks nobody for it: set nats.url, or nats.embedded.config with its own users and TLS")
		}
	}
	return r.broken
}

// pictures finds images that cannot be shown. The commands show none, and may run where
// the files are not.
func pictures(c config) []problem {
	var r rules
	for i, p := range c.Products {
		if p.Image != "" {
			_, err := web.ReadImage(p.Image)
			r.check(index("products", i)+".image", err)
		}
	}
	return r.broken
}

// server names an entry by its number: it may hold a password, and what a URL
// parser complains about is the URL itself.
func (r *rules) server(key string, n int, server string) {
	u, err := url.Parse(server)
	switch {
	case err != nil || !isHostPort(u):
		r.fail(key, "entry %d is not a URL such as nats://127.0.0.1:4222", n)
	case !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme):
		r.fail(key, "entry %d must begin with nats://, tls://, ws:// or wss://", n)
	}
}

// path refuses what no file name holds on purpose. Whether the file is there shows when it
// is opened.
func (r *rules) path(key, path string) {
	if !utf8.ValidString(path) || strings.ContainsFunc(path, unicode.IsControl) {
		r.fail(key, "%q holds characters that are not text", path)
	}
}

func (r *rules) products(products []productConfig) {
	first := map[string]int{}
	for i, p := range products {
		key := index("products", i)
		if _, err := sale.ParseProductID(p.ID); err != nil {
			r.fail(key+".id", "must be lower-case letters, digits, hyphens and underscores, at most 63, is %q", p.ID)
		} else if j, ok := first[p.ID]; ok {
			r.fail(key+".id", "%q is already the id of %s", p.ID, index("products", j))
		} else {
			first[p.ID] = i
		}
		r.units(key+".stock", p.Stock)
		r.units(key+".limit_per_buyer", p.LimitPerBuyer)
		r.check(key+".title", web.CheckText(p.Title))
		r.check(key+".description", web.CheckText(p.Description))
		r.check(key+".price", web.CheckText(p.Price))
		r.path(key+".image", p.Image)
		if p.NextURL != "" {
			r.check(key+".next_url", web.CheckNextURL(p.NextURL))
		}
	}
}

func (r *rules) units(key string, n int64) {
	if n < 0 || n > sale.MaxUnits {
		r.fail(key, "must be from 0 to %d, is %d", int64(sale.MaxUnits), n)
	}
}

func index(list string, i int) string { return fmt.Sprintf("%s[%d]", list, i) }
