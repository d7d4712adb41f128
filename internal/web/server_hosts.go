package web

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/gofiber/fiber/v2"
)

// Hosts are the names that a server answers to besides IP addresses and localhost.
// Browsers give a page that points its own name at this machine (DNS rebinding) all
// that the same origin gets: only the name in Host tells such a page from a friend.
type Hosts struct {
	names map[string]bool
	err   *problem // the refusal of other names
}

// NewHosts takes names for which CheckHost returns nil. The key is where they are
// configured, which the refusal of other names says.
func NewHosts(key string, names ...string) Hosts {
	h := Hosts{names: make(map[string]bool, len(names)), err: errMisdirected.because(
		"This server is asked under a name that is none of its own: IP addresses, localhost, and the names in " + key + ".")}
	for _, name := range names {
		h.names[bareHost(name)] = true
	}
	return h
}

// CheckHost returns an error unless a configured name can be one that a Host header
// names, without its port.
func CheckHost(name string) error {
	if !hostName.MatchString(name) {
		return fmt.Errorf("must be a host name without a port, such as shop.example.com, is %q", name)
	}
	return nil
}

// serve reports whether a request with that Host may be answered. One without a Host
// comes from no browser: HAProxy's checks are HTTP/1.0.
func (h *Hosts) serve(host string) bool {
	if host == "" {
		return true
	}
	name, _ := splitHost(host)
	name = bareHost(name)
	if name == "localhost" || strings.HasSuffix(name, ".localhost") || h.names[name] { // RFC 6761 6.3
		return true
	}
	_, err := netip.ParseAddr(name)
	return err == nil
}

// Guard answers requests under a foreign name with a problem, and gives others to next.
func (h Hosts) Guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h.serve(r.Host) {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", problemType)
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(h.err.status)
		_, _ = w.Write(h.err.body) // the reader may be gone
	})
}

// splitHost is the name and the port of a Host, the port "" if there is none. The name
// of an IPv6 address has no brackets.
func splitHost(host string) (name, port string) {
	if name, port, err := net.SplitHostPort(host); err == nil {
		return name, port
	}
	return strings.Trim(host, "[]"), ""
}

func bareHost(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// misdirected is the refusal of a request under a foreign name, nil if there is no
// reason. It is for listeners on the loopback address, where a page with a rebound name
// always sends this listener's port. A proxy on the same machine hands on the public
// name without it, and is answered.
func (s *Server) misdirected(c *fiber.Ctx) *problem {
	if s.loopbackPort == "" {
		return nil
	}
	host := string(c.Request().Header.Host())
	_, port := splitHost(host)
	if port == "" {
		port = "80"
	}
	if port != s.loopbackPort || s.hosts.serve(host) {
		return nil
	}
	if times, due := s.misnamed.due(s.now()); due {
		s.log.Warn("requests under a foreign name are refused: if it is yours, list it in http.hosts", "host", shortened(host), "times", times)
	}
	return s.hosts.err
}

// loopbackPort is the port of a listener on the loopback address, "" for any other.
func loopbackPort(ln net.Listener) string {
	at, ok := ln.Addr().(*net.TCPAddr)
	if !ok || !at.IP.IsLoopback() {
		return ""
	}
	return fmt.Sprint(at.Port)
}
