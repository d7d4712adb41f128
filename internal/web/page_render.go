package web

import (
	"bytes"
	"compress/gzip"
	"html/template"
	"io"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/google/uuid"

	"firstcome/internal/sale"
)

// pages are the templates of all that is rendered.
type pages struct {
	index, answer *template.Template
}

// newPages reads the templates. index.html may use what pageData has, and is rendered as
// it stands if it does not.
func newPages(p *page) (pages, error) {
	index := p.hashed(p.index)
	if !strings.Contains(index, `template "og"`) {
		index = strings.Replace(index, "</head>", "{{template \"og\" .}}</head>", 1)
	}
	var all pages
	var err error
	if all.index, err = template.New("index.html").Parse(index + openGraph); err != nil {
		return all, err
	}
	all.answer, err = template.New("answer").Parse(p.hashed(answerHTML))
	return all, err
}

// pageData is what the page can show of the moment at which it is rendered.
type pageData struct {
	Key      string        // for the form's hidden field key: one wish is one order (P10)
	Base     string        // relative URL of the shop: "./", or such as "../"
	URL      string        // the shop's, absolute, with a slash at the end
	Product  *productView  // the one that the query names, or the first; nil: nothing is sold
	Products []productView // in their order
	Named    bool          // the query names Product
}

// productView is a product as a template shows it.
type productView struct {
	ID          string
	Title       string // the id if there is none
	Description string
	Price       string
	Image       string // relative URL, "" without
	NextURL     string

	Available, Sold, Supplied int64
	Waiting                   uint64
	LimitPerBuyer             int64
	OpensAt, ClosesAt         *time.Time
	State                     string
}

func (s *Server) view(p *sale.Product, now time.Time) productView {
	v := productView{ID: string(p.Product), Title: string(p.Product), Available: p.Available, Sold: p.Sold, Supplied: p.Supplied,
		Waiting: p.Waiting, LimitPerBuyer: p.LimitPerBuyer, OpensAt: p.OpensAt, ClosesAt: p.ClosesAt, State: string(p.State(now))}
	if l := s.listings.of[p.Product]; l != nil {
		if l.Title != "" {
			v.Title = l.Title
		}
		v.Description, v.Price, v.Image, v.NextURL = l.Description, l.Price, l.image, l.NextURL
	}
	return v
}

// openGraph is what a link to the shop looks like where it is shared (ogp.me).
const openGraph = `{{define "og"}}  <meta property="og:type" content="website">
  <meta property="og:site_name" content="firstcome">
{{with .URL}}  <meta property="og:url" content="{{.}}{{if $.Named}}?product={{$.Product.ID}}{{end}}">
{{end}}{{with .Product}}  <meta property="og:title" content="{{.Title}}{{with .Price}} · {{.}}{{end}}">
{{with .Description}}  <meta property="og:description" content="{{.}}">
{{end}}{{if and .Image $.URL}}  <meta property="og:image" content="{{$.URL}}{{.Image}}">
{{end}}{{else}}  <meta property="og:title" content="firstcome">
{{end}}{{end}}`

// showIndex renders the page with the products of this moment. It works without
// JavaScript: its form has a key, and the products are in it.
func (s *Server) showIndex(c *fiber.Ctx) error {
	now := s.now()
	data := pageData{Key: uuid.NewString(), Base: base(c), URL: s.outside(c)}
	for _, p := range s.products() {
		data.Products = append(data.Products, s.view(&p, now))
	}
	named := c.Context().QueryArgs().Peek("product")
	for i := range data.Products {
		if p := &data.Products[i]; p.ID == string(named) {
			data.Product, data.Named = p, true
		}
	}
	if data.Product == nil && len(data.Products) > 0 {
		data.Product = &data.Products[0]
	}
	c.Response().Header.Set(fiber.HeaderCacheControl, cacheAsk)
	return s.render(c, s.pages.index, data)
}

// render answers with HTML, whatever the status is.
func (s *Server) render(c *fiber.Ctx, t *template.Template, data any) error {
	b := renderBuffers.Get().(*bytes.Buffer)
	defer renderBuffers.Put(b)
	b.Reset()
	if err := t.Execute(b, data); err != nil {
		return err
	}
	r := c.Response()
	protect(c)
	r.Header.SetContentType(fiber.MIMETextHTMLCharsetUTF8)
	r.Header.SetCanonical(headerVary, varyCoding)
	if takesGzip(c) {
		r.Header.Set(fiber.HeaderContentEncoding, "gzip")
		return zipInto(r.BodyWriter(), b.Bytes())
	}
	r.SetBody(b.Bytes())
	return nil
}

var renderBuffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// zipWriters are kept, as each holds some 800 KB. fasthttp's own would leave goroutines
// behind that nothing ends.
var zipWriters = sync.Pool{New: func() any {
	w, err := gzip.NewWriterLevel(nil, gzip.BestSpeed)
	if err != nil {
		panic("web: gzip: " + err.Error()) // the level is one of its own
	}
	return w
}}

func zipInto(to io.Writer, body []byte) error {
	w := zipWriters.Get().(*gzip.Writer)
	defer zipWriters.Put(w)
	w.Reset(to)
	if _, err := w.Write(body); err != nil {
		return err
	}
	return w.Close()
}

// base is the relative URL of the shop from the request's path.
func base(c *fiber.Ctx) string {
	if up := strings.Count(c.Path(), "/") - 1; up > 0 {
		return strings.Repeat("../", up)
	}
	return "./"
}

// outside is the shop's URL as its clients see it, "" if the request does not tell.
func (s *Server) outside(c *fiber.Ctx) string {
	head := &c.Request().Header
	u := url.URL{Scheme: "http", Host: string(head.Host())}
	if s.proxied(c) {
		if hosts := forwardedHosts(head); len(hosts) > 0 {
			u.Host = hosts[0]
		}
		schemes := append(listed(head.PeekAll(fiber.HeaderXForwardedProto)), forwarded(head, "proto", "")...)
		if len(schemes) > 0 && strings.EqualFold(strings.Trim(schemes[0], " \t"), "https") {
			u.Scheme = "https"
		}
	}
	if !isHostPort(&u) {
		return ""
	}
	return u.String() + s.prefix(c) + "/"
}

// quality is the weight of an exact name in an Accept or Accept-Encoding header (RFC 9110,
// 12.4.2), and whether it is listed at all.
func quality(header, name string) (q float64, listed bool) {
	for one := range strings.SplitSeq(header, ",") {
		one, params, _ := strings.Cut(one, ";")
		if !strings.EqualFold(strings.Trim(one, " \t"), name) {
			continue
		}
		q = 1
		for param := range strings.SplitSeq(params, ";") {
			key, value, _ := strings.Cut(strings.Trim(param, " \t"), "=")
			if strings.EqualFold(key, "q") {
				if weight, err := strconv.ParseFloat(value, 64); err == nil {
					q = weight
				}
			}
		}
		return q, true
	}
	return 0, false
}

// wantsHTML reports whether a person reads the answer: a browser that goes to a page or
// sends a form lists text/html, and scripts do not.
func wantsHTML(c *fiber.Ctx) bool {
	accept := c.Request().Header.Peek(fiber.HeaderAccept)
	if !bytes.Contains(accept, []byte("text/html")) {
		return false
	}
	html, listed := quality(string(accept), "text/html")
	json, _ := quality(string(accept), fiber.MIMEApplicationJSON)
	problem, _ := quality(string(accept), problemType)
	return listed && html > max(json, problem)
}
