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
	"github.com/valyala/fasthttp"
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

// admission is what lets a page use this server.
type admission int

const (
	stranger    admission = iota
	own                   // a page of this server
	listedPage            // by http.allowed_origins
	sameMachine           // the demo's rule
)

// admit tells what lets a page of that origin use the server that is called by one of
// the hosts. A page of the host itself may, whatever its scheme: behind a proxy that
// ends TLS, this server cannot know the scheme. "null" is refused.
func (o *origins) admit(origin string, hosts ...string) admission {
	if o.allowed[origin] {
		return listedPage
	}
	theirs, ok := originHost(origin)
	if !ok {
		return stranger
	}
	for _, host := range hosts {
		if host = withoutDefaultPort(host); host != "" && strings.EqualFold(withoutDefaultPort(theirs), host) {
			return own
		}
	}
	if o.loopback && isLoopback(theirs) {
		return sameMachine
	}
	return stranger
}

// withoutDefaultPort is without the port of either scheme: a proxy that ends TLS may
// hand on port 80 with the name of an https site.
func withoutDefaultPort(host string) string {
	if bare, ok := strings.CutSuffix(host, ":80"); ok {
		return bare
	}
	return strings.TrimSuffix(host, ":443")
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
	by := s.origins.admit(string(origin), string(c.Request().Header.Host()))
	if by == stranger && s.proxied(c) {
		by = s.origins.admit(string(origin), forwardedHosts(&c.Request().Header)...)
	}
	if by == stranger {
		return false
	}
	h.SetBytesV(fiber.HeaderAccessControlAllowOrigin, origin)
	h.Set(fiber.HeaderAccessControlExposeHeaders, "Location, Idempotent-Replayed, Retry-After, ETag")
	if by == listedPage {
		h.Set(fiber.HeaderAccessControlAllowCredentials, "true")
	}
	return true
}

// forwardedHosts are the names under which proxies were asked.
func forwardedHosts(head *fasthttp.RequestHeader) []string {
	hosts := append(listed(head.PeekAll(fiber.HeaderXForwardedHost)), forwarded(head, "host", "")...)
	for i, host := range hosts {
		hosts[i], _ = unquote(strings.Trim(host, " \t"))
	}
	return hosts
}

// foreign is the refusal of a page's request. The log says what was compared: behind a
// proxy that changes Host, the page refused may be the shop's own.
func (s *Server) foreign(c *fiber.Ctx) *problem {
	if times, due := s.strangers.due(s.now()); due {
		head := &c.Request().Header
		compared := []any{"origin", shortened(string(head.PeekBytes(headerOrigin))), "host", shortened(string(head.Host()))}
		if hosts := forwardedHosts(head); len(hosts) > 0 {
			compared = append(compared, "forwarded_host", shortened(strings.Join(hosts, ", ")), "peer_is_trusted", s.proxied(c))
		}
		s.log.Warn("pages of a foreign origin are refused: if they are yours, have the proxy hand on their host and port, or list them in http.allowed_origins",
			append(compared, "times", times)...)
	}
	return errOrigin
}

var (
	headerVary   = []byte(fiber.HeaderVary)
	headerOrigin = []byte(fiber.HeaderOrigin)
)

// preflight answers OPTIONS, which a browser sends to ask whether a page may send the
// real request. An admitted page may send what headers it likes: tracing libraries add
// theirs to each request.
func (s *Server) preflight(methods string) fiber.Handler {
	return func(c *fiber.Ctx) error {
		h := &c.Response().Header
		h.Set(fiber.HeaderAllow, methods)
		switch {
		case len(h.Peek(fiber.HeaderAccessControlAllowOrigin)) > 0:
			asked := c.Request().Header.Peek(fiber.HeaderAccessControlRequestHeaders)
			if len(asked) > maxAsked || !headerNames.Match(asked) {
				asked = []byte("Content-Type, Idempotency-Key")
			}
			h.Set(fiber.HeaderAccessControlAllowMethods, methods)
			h.SetBytesV(fiber.HeaderAccessControlAllowHeaders, asked)
			h.Set(fiber.HeaderAccessControlMaxAge, "600")
		case len(c.Request().Header.Peek(fiber.HeaderAccessControlRequestMethod)) > 0:
			s.foreign(c) // the real request will not come
		}
		c.Status(fiber.StatusNoContent)
		return nil
	}
}

const maxAsked = 1 << 10 // bytes of header names that a preflight may ask for

// headerNames is a list of header names (RFC 9110, 5.6.1 and 5.6.2).
var headerNames = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+([ \t]*,[ \t]*[!#$%&'*+.^_`|~0-9A-Za-z-]+)*$")
