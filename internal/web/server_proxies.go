package web

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strings"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"
)

// proxies are the peers whose forwarding headers are believed.
type proxies []netip.Prefix

// CheckProxy returns an error unless a configured proxy is an address or a CIDR prefix.
func CheckProxy(proxy string) error {
	_, err := parseProxy(proxy)
	return err
}

// parseProxy has IPv4 addresses in their own form, however they are written: they are
// compared in that form.
func parseProxy(proxy string) (netip.Prefix, error) {
	if p, err := netip.ParsePrefix(proxy); err == nil {
		if !p.Addr().Is4In6() {
			return p.Masked(), nil
		}
		if p.Bits() < 96 {
			return netip.Prefix{}, fmt.Errorf("holds all IPv4 addresses and more: write 0.0.0.0/0, or a range such as 10.0.0.0/8, is %q", proxy)
		}
		return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96).Masked(), nil
	}
	ip, err := netip.ParseAddr(proxy)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("must be an IP address or a range such as 10.0.0.0/8, is %q", proxy)
	}
	ip = plainAddr(ip)
	return netip.PrefixFrom(ip, ip.BitLen()), nil
}

// plainAddr is an address as it is compared: without zone, IPv4 in its own form.
func plainAddr(ip netip.Addr) netip.Addr { return ip.WithZone("").Unmap() }

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
// proxy, the right-most hop that is not a trusted proxy. The hops to its left may be
// forged. Empty hops are skipped. A hop that cannot be read ends the walk at the one
// before, and is returned as unreadable.
func (ps proxies) client(peer netip.Addr, hops []string) (client netip.Addr, unreadable string) {
	client = plainAddr(peer)
	for i := len(hops) - 1; i >= 0 && ps.trust(client); i-- {
		hop := strings.Trim(hops[i], " \t")
		if hop == "" {
			continue
		}
		ip, ok := readHop(hop)
		if !ok {
			return client, hop
		}
		client = ip
	}
	return client, ""
}

// readHop reads an address as proxies write it into X-Forwarded-For and Forwarded:
//
//	192.0.2.1  192.0.2.1:443  2001:db8::1  [2001:db8::1]  [2001:db8::1]:443
//	fe80::1%eth0  ::ffff:192.0.2.1  and any of these in double quotes
//
// The port may be an obfuscated one (RFC 7239, 6.3).
func readHop(hop string) (netip.Addr, bool) {
	if inner, quoted := unquote(hop); quoted {
		hop = inner
	}
	if rest, bracketed := strings.CutPrefix(hop, "["); bracketed {
		host, port, closed := strings.Cut(rest, "]")
		ip, err := netip.ParseAddr(host)
		if !closed || err != nil || !ip.Is6() || port != "" && !hopPort.MatchString(port) {
			return netip.Addr{}, false
		}
		return plainAddr(ip), true
	}
	if host, _, one := strings.Cut(hop, ":"); one && strings.Count(hop, ":") == 1 {
		if !hopPort.MatchString(hop[len(host):]) {
			return netip.Addr{}, false
		}
		hop = host
	}
	ip, err := netip.ParseAddr(hop)
	return plainAddr(ip), err == nil
}

var hopPort = regexp.MustCompile(`^:([0-9]{1,5}|_[A-Za-z0-9._-]+)$`)

// unquote reads a quoted string (RFC 9110, 5.6.4).
func unquote(s string) (text string, quoted bool) {
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return s, false
	}
	s = s[1 : len(s)-1]
	if !strings.Contains(s, `\`) {
		return s, true
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String(), true
}

// splitOutside splits at sep where that is in no quoted string.
func splitOutside(s string, sep byte) []string {
	var parts []string
	start, quoted := 0, false
	for i := 0; i < len(s); i++ {
		switch {
		case quoted && s[i] == '\\':
			i++
		case s[i] == '"':
			quoted = !quoted
		case s[i] == sep && !quoted:
			parts = append(parts, s[start:i])
			start = i + 1
		}
	}
	return append(parts, s[start:])
}

// listed are the elements of a header that is a list, all its lines together.
func listed(lines [][]byte) []string {
	var all []string
	for _, line := range lines {
		all = append(all, splitOutside(string(line), ',')...)
	}
	return all
}

// forwarded is the named parameter of each element of Forwarded (RFC 7239), and missing
// for an element without it.
func forwarded(head *fasthttp.RequestHeader, name, missing string) []string {
	elements := listed(head.PeekAll(fiber.HeaderForwarded))
	for i, element := range elements {
		if strings.Trim(element, " \t") == "" {
			continue
		}
		elements[i] = missing
		for _, pair := range splitOutside(element, ';') {
			key, value, ok := strings.Cut(strings.Trim(pair, " \t"), "=")
			if ok && strings.EqualFold(key, name) {
				elements[i] = value
			}
		}
	}
	return elements
}

// hops are the addresses that the request came through, the client's first, as the
// headers say. Forwarded counts only where there is no X-Forwarded-For.
func hops(head *fasthttp.RequestHeader) []string {
	if lines := head.PeekAll(fiber.HeaderXForwardedFor); len(lines) > 0 {
		var all []string
		for _, line := range lines { // no address has a comma: a client's quote must not take in what proxies add
			all = append(all, strings.Split(string(line), ",")...)
		}
		return all
	}
	return forwarded(head, "for", "nothing")
}

// peer is the address at the other end of the connection.
func peer(c *fiber.Ctx) netip.Addr {
	if tcp, ok := c.Context().RemoteAddr().(*net.TCPAddr); ok {
		return plainAddr(tcp.AddrPort().Addr())
	}
	return netip.Addr{}
}

// proxied reports whether the request comes from a trusted proxy.
func (s *Server) proxied(c *fiber.Ctx) bool { return len(s.proxies) > 0 && s.proxies.trust(peer(c)) }

// address is what a request counts for: its client's IPv4 address, or IPv6 network of
// 64 bits, which is what one household gets.
func (s *Server) address(c *fiber.Ctx) string {
	client := peer(c)
	if s.proxies.trust(client) {
		var unreadable string
		if client, unreadable = s.proxies.client(client, hops(&c.Request().Header)); unreadable != "" {
			s.unreadHop.Do(func() {
				s.log.Warn("a trusted proxy forwards what is no address: such requests count for the hop before it",
					"read", shortened(unreadable), "counts", client.String())
			})
		}
	}
	if client.Is6() {
		return netip.PrefixFrom(client, 64).Masked().String()
	}
	return client.String()
}

// prefix is the path below which a trusted proxy shows this server, without a slash at
// its end: "" or such as "/drop".
func (s *Server) prefix(c *fiber.Ctx) string {
	given := c.Request().Header.PeekAll("X-Forwarded-Prefix")
	if len(given) != 1 || !s.proxied(c) {
		return ""
	}
	prefix := strings.TrimRight(string(given[0]), "/")
	if len(prefix) > maxPrefix || !pathPrefix.MatchString(prefix) {
		return ""
	}
	return prefix
}

const maxPrefix = 256 // bytes

// pathPrefix has no empty segment: a path that begins with two slashes names a host.
var pathPrefix = regexp.MustCompile(`^(/[A-Za-z0-9._~!$&'()*+,;=:@%-]+)+$`)

// shortened is text of a request as a log may hold it.
func shortened(text string) string {
	if len(text) > 200 {
		return strings.ToValidUTF8(text[:200], "") + "…"
	}
	return text
}
