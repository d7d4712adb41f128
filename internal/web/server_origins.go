package web

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/gofiber/fiber/v2"
)

// origins are the pages that may use this server from a browser. CORS and the
// WebSocket's origin check share it.
type origins struct {
	allowed  map[string]bool
	loopback bool
}

// CheckOrigin returns an error for a configured origin that can never match. Origins are
// compared byte for byte, so it must be spelled as browsers send it (RFC 6454 6.2):
// scheme, host, and the port unless it is the scheme's own.
func CheckOrigin(origin string) error {
	u, err := url.Parse(origin)
	if err != nil || u.Scheme == "" || !isHostPort(u) {
		return fmt.Errorf("must be an origin such as https://shop.example.com, is %q", origin)
	}
	exact := strings.ToLower(u.Scheme + "://" + u.Host)
	switch u.Scheme {
	case "http":
		exact = strings.TrimSuffix(exact, ":80")
	case "https":
		exact = strings.TrimSuffix(exact, ":443")
	}
	if origin != exact {
		return fmt.Errorf("browsers would send %q for %q: write it like that", exact, origin)
	}
	return nil
}

var hostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$`)

// isHostPort is about the host of a URL, which may come without a port.
func isHostPort(u *url.URL) bool {
	if _, err := netip.ParseAddr(u.Hostname()); err != nil && !hostName.MatchString(u.Hostname()) {
		return false
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	return !strings.HasSuffix(u.Host, ":") && (u.Port() == "" || err == nil && port > 0)
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
		return netip.Prefix{}, fmt.Errorf("must be an IP address or a range such as 10.0.0.0/8, is %q", proxy)
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
