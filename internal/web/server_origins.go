package web

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/gofiber/fiber/v2"
)

// origins are the pages that may use this server from a browser. CORS and the
// WebSocket's origin check share it.
type origins struct {
	allowed  map[string]bool
	loopback bool
}

// CheckOrigin returns an error for a configured origin that can never match: it must be
// a scheme, a host and perhaps a port, spelled as browsers send them (RFC 6454 6.2).
func CheckOrigin(origin string) error {
	host, ok := originHost(origin)
	switch {
	case !ok:
		return fmt.Errorf("%q is not http://host[:port] or https://host[:port]", origin)
	case origin != strings.ToLower(origin):
		return fmt.Errorf("%q has uppercase letters, which browsers do not send", origin)
	case strings.HasSuffix(origin, "*") || strings.ContainsAny(host, "*/?#@ "):
		return fmt.Errorf("%q is no exact origin: no path, no wildcard", origin)
	}
	return nil
}

func newOrigins(allowed []string, loopback bool) (origins, error) {
	o := origins{allowed: make(map[string]bool, len(allowed)), loopback: loopback}
	for _, origin := range allowed {
		if err := CheckOrigin(origin); err != nil {
			return origins{}, err
		}
		o.allowed[origin] = true
	}
	return o, nil
}

// allow reports whether a page of that origin may use the server called host. A page
// of the host itself may, whatever its scheme: behind a proxy that ends TLS, this
// server cannot know the scheme. "null" is refused.
func (o *origins) allow(origin, host string) bool {
	if o.allowed[origin] {
		return true
	}
	theirs, ok := originHost(origin)
	if !ok {
		return false
	}
	port := ":80"
	if strings.HasPrefix(origin, "https:") {
		port = ":443"
	}
	if strings.EqualFold(strings.TrimSuffix(theirs, port), strings.TrimSuffix(host, port)) {
		return true
	}
	return o.loopback && isLoopback(theirs)
}

func originHost(origin string) (host string, ok bool) {
	host, ok = strings.CutPrefix(origin, "http://")
	if !ok {
		host, ok = strings.CutPrefix(origin, "https://")
	}
	return host, ok && host != ""
}

func isLoopback(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	if host == "localhost" || strings.HasSuffix(host, ".localhost") { // RFC 6761 6.3
		return true
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && ip.IsLoopback()
}

// admitOrigin sets the CORS headers, and reports whether the request may act: it has
// no Origin (curl, servers), or an allowed one.
func (s *Server) admitOrigin(c *fiber.Ctx) bool {
	h := &c.Response().Header
	h.SetCanonical(headerVary, headerOrigin)
	origin := c.Request().Header.PeekBytes(headerOrigin)
	if len(origin) == 0 {
		return true
	}
	if !s.origins.allow(string(origin), string(c.Request().Header.Host())) {
		return false
	}
	h.SetBytesV(fiber.HeaderAccessControlAllowOrigin, origin)
	h.Set(fiber.HeaderAccessControlExposeHeaders, "Location, Idempotent-Replayed, Retry-After")
	return true
}

var (
	headerVary   = []byte(fiber.HeaderVary)
	headerOrigin = []byte(fiber.HeaderOrigin)
)

// preflight answers OPTIONS, which a browser sends to ask whether a page may send the
// real request.
func preflight(methods string) fiber.Handler {
	return func(c *fiber.Ctx) error {
		h := &c.Response().Header
		h.Set(fiber.HeaderAllow, methods)
		if len(h.Peek(fiber.HeaderAccessControlAllowOrigin)) > 0 {
			h.Set(fiber.HeaderAccessControlAllowMethods, methods)
			h.Set(fiber.HeaderAccessControlAllowHeaders, "Content-Type, Idempotency-Key")
			h.Set(fiber.HeaderAccessControlMaxAge, "600")
		}
		c.Status(fiber.StatusNoContent)
		return nil
	}
}

// proxies are the peers whose X-Forwarded-For is believed.
type proxies []netip.Prefix

// CheckProxy returns an error unless a configured proxy is an address or a CIDR prefix.
func CheckProxy(proxy string) error {
	_, err := parseProxy(proxy)
	return err
}

func parseProxy(proxy string) (netip.Prefix, error) {
	if p, err := netip.ParsePrefix(proxy); err == nil {
		return p.Masked(), nil
	}
	ip, err := netip.ParseAddr(proxy)
	if err != nil {
		return netip.Prefix{}, errors.New(`"` + proxy + `" is neither an address nor a prefix such as 10.0.0.0/8`)
	}
	return netip.PrefixFrom(ip.Unmap(), ip.Unmap().BitLen()), nil
}

func newProxies(list []string) (proxies, error) {
	var ps proxies
	for _, text := range list {
		p, err := parseProxy(text)
		if err != nil {
			return nil, err
		}
		ps = append(ps, p)
	}
	return ps, nil
}

func (ps proxies) trust(ip netip.Addr) bool {
	for _, p := range ps {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}

// client is the address that sent the request: the peer, or, if that is a trusted
// proxy, the right-most address in X-Forwarded-For that is not a trusted proxy. The
// addresses to its left may be forged.
func (ps proxies) client(peer netip.Addr, forwarded [][]byte) netip.Addr {
	client := peer.Unmap()
	for i := len(forwarded) - 1; i >= 0; i-- {
		hops := strings.Split(string(forwarded[i]), ",")
		for j := len(hops) - 1; j >= 0; j-- {
			if !ps.trust(client) {
				return client
			}
			ip, err := netip.ParseAddr(strings.TrimSpace(hops[j]))
			if err != nil {
				return client
			}
			client = ip.Unmap().WithZone("")
		}
	}
	return client
}
