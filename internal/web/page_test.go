package web

import (
	"compress/gzip"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"firstcome/internal/sale"
)

const testCSP = "default-src 'self'; connect-src 'self' ws: wss:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"

// fetch is get without the client's own decompression.
func fetch(t testing.TB, url, coding string) (*http.Response, string) {
	t.Helper()
	r := get(t, url, "Accept-Encoding", coding)
	if r.Header.Get("Content-Encoding") != "gzip" {
		return r.Response, r.body
	}
	z, err := gzip.NewReader(strings.NewReader(r.body))
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return r.Response, string(b)
}

// The page points to assets that are kept for a year; the page itself is asked for again.
func TestThePage(t *testing.T) {
	w := newTown(t, "tshirt")
	_, addr := open(t, w, nil)
	r := get(t, "http://"+addr+"/")
	if h := r.Header; r.StatusCode != 200 || h.Get("Content-Type") != "text/html; charset=utf-8" || h.Get("Cache-Control") != "no-cache" ||
		h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Content-Security-Policy") != testCSP {
		t.Errorf("%d %v", r.StatusCode, h)
	}
	if zipped, text := fetch(t, "http://"+addr+"/", "br, gzip"); zipped.Header.Get("Content-Encoding") != "gzip" || !strings.Contains(text, "</html>") {
		t.Errorf("%v", zipped.Header)
	}
	assets := regexp.MustCompile(`(?:href|src)="(page[^"]*)"`).FindAllStringSubmatch(r.body, -1)
	if len(assets) < 3 {
		t.Fatalf("%d assets in %s", len(assets), r.body)
	}
	for _, asset := range assets {
		url := "http://" + addr + "/" + asset[1]
		if !strings.HasPrefix(asset[1], "page-"+loadPage().hash+"/") {
			t.Errorf("%s has no hash", asset[1])
		}
		file := loadPage().files[asset[1][strings.IndexByte(asset[1], '/')+1:]]
		if file == nil {
			t.Errorf("there is no %s", asset[1])
			continue
		}
		for _, coding := range []string{"gzip, deflate", "identity", "gzip;q=0"} {
			r, text := fetch(t, url, coding)
			h := r.Header
			if r.StatusCode != 200 || h.Get("Cache-Control") != "public, max-age=31536000, immutable" || h.Get("Content-Type") != file.contentType ||
				h.Get("Vary") != "Origin, Accept-Encoding" || h.Get("X-Content-Type-Options") != "nosniff" || text != string(file.body) {
				t.Errorf("%s: %d %v", url, r.StatusCode, h)
			}
			if zipped := h.Get("Content-Encoding") == "gzip"; zipped != (coding == "gzip, deflate" && file.zipped != nil) {
				t.Errorf("%s with %s: %v", url, coding, h)
			}
			again := get(t, url, "Accept-Encoding", coding, "If-None-Match", "W/"+h.Get("ETag"))
			if again.StatusCode != 304 || again.body != "" || again.Header.Get("ETag") != h.Get("ETag") {
				t.Errorf("%s again: %d", url, again.StatusCode)
			}
		}
	}
	for path, want := range map[string]string{
		"/client.js": "no-cache", "/page/style.css": "no-cache", "/page/icon.svg": "no-cache", "/page-0011223344556677/style.css": "no-cache",
	} {
		if r := get(t, "http://"+addr+path); r.StatusCode != 200 || r.Header.Get("Cache-Control") != want {
			t.Errorf("%s: %d %v", path, r.StatusCode, r.Header)
		} else if again := get(t, "http://"+addr+path, "If-None-Match", r.Header.Get("ETag")); again.StatusCode != 304 {
			t.Errorf("%s again: %d", path, again.StatusCode)
		}
	}
	for _, path := range []string{"/page/none.js", "/favicon.ico", "/index.html", "/page/index.html", "/page/", "/page",
		"/page-" + loadPage().hash + "/index.html", "/page-" + loadPage().hash + "/../page/icon.svg", "/page/..%2fpage.go"} {
		if r := get(t, "http://"+addr+path); r.StatusCode != 404 {
			t.Errorf("%s: %d", path, r.StatusCode)
		}
	}
}

// A change of any file is another hash, and what is no asset is not served.
func TestReadPage(t *testing.T) {
	folder := func(js string) fstest.MapFS {
		return fstest.MapFS{"page/index.html": {Data: []byte("<p>")}, "page/app.js": {Data: []byte(js)}, "page/client.js": {Data: []byte("export {}")},
			"page/a/b.css": {Data: []byte(strings.Repeat("a{}", 100))}, "page/notes.md": {Data: []byte("x")}}
	}
	one, err := readPage(folder("1"))
	if err != nil {
		t.Fatal(err)
	}
	same, _ := readPage(folder("1"))
	other, _ := readPage(folder("2"))
	if one.hash != same.hash || one.hash == other.hash || len(one.hash) != 16 {
		t.Errorf("%s %s %s", one.hash, same.hash, other.hash)
	}
	if len(one.files) != 3 || one.files["a/b.css"].zipped == nil || one.files["app.js"].zipped != nil || one.index != "<p>" {
		t.Errorf("%+v", one.files)
	}
	got := one.hashed(`<a href="page/x"><a href='page/y'><a href="{{.Base}}page/z"><a href="homepage/x">page/`)
	if want := strings.ReplaceAll(`<a href="page-H/x"><a href='page-H/y'><a href="{{.Base}}page-H/z"><a href="homepage/x">page/`, "H", one.hash); got != want {
		t.Errorf("%s", got)
	}
}

// withIndex renders another template of the page.
func withIndex(t testing.TB, index string) func(*Server) {
	t.Helper()
	all, err := newPages(&page{index: index, hash: "h"})
	if err != nil {
		t.Fatal(err)
	}
	return func(s *Server) { s.pages = all }
}

func TestTheIndexIsRendered(t *testing.T) {
	w := newTown(t, "tshirt", "mug")
	at := time.Date(2026, 12, 1, 19, 0, 0, 0, time.UTC)
	w.steer(t, "mug", hours(&at, nil))
	_, addr := open(t, w, func(c *Config) {
		c.Now = func() time.Time { return at.Add(-time.Hour) }
		c.Listings = []Listing{{Product: "tshirt", Title: `"Shirt" <b>`, Price: "25 €", Description: "Two", Image: []byte(testPNG)}}
		c.TrustedProxies = []string{"127.0.0.1"}
	}, withIndex(t, `<html><head></head>{{.Key}}|{{.Base}}|{{.URL}}|{{with .Product}}{{.ID}} {{.State}} {{.Available}}{{with .OpensAt}} {{.Format "15:04"}}{{end}}{{end}}|{{range .Products}}{{.ID}} {{.Title}} {{.Image}},{{end}}|`))
	fields := func(query string, header ...string) []string {
		t.Helper()
		r := get(t, "http://"+addr+"/"+query, header...)
		parts := strings.Split(r.body, "|")
		if r.StatusCode != 200 || len(parts) != 6 {
			t.Fatalf("%d %s", r.StatusCode, r.body)
		}
		return parts
	}
	first, again := fields(""), fields("")
	key := regexp.MustCompile(`</head>([0-9a-f-]{36})$`)
	if a, b := key.FindString(first[0]), key.FindString(again[0]); a == "" || b == "" || a == b {
		t.Errorf("keys %q and %q", a, b)
	}
	image := loadedImage(t, addr)
	if got := strings.Join(first[1:5], "|"); got != "./|http://"+addr+"/|tshirt open 5|tshirt &#34;Shirt&#34; &lt;b&gt; "+image+",mug mug ," {
		t.Errorf("%s", got)
	}
	if got := fields("?product=mug")[3]; got != "mug not_open 5 19:00" {
		t.Errorf("%s", got)
	}
	if got := fields("?product=car")[3]; got != "tshirt open 5" {
		t.Errorf("%s", got)
	}
	if got := fields("", "X-Forwarded-Host", "shop.example", "X-Forwarded-Proto", "https", "X-Forwarded-Prefix", "/drop")[2]; got != "https://shop.example/drop/" {
		t.Errorf("%s", got)
	}
	if got := fields("", "X-Forwarded-Host", `"><script>`)[2]; got != "" {
		t.Errorf("%s", got)
	}
	og := fields("?product=tshirt", "X-Forwarded-Host", "shop.example", "X-Forwarded-Proto", "https")[0]
	for _, want := range []string{`property="og:url" content="https://shop.example/?product=tshirt"`, `property="og:title" content="&#34;Shirt&#34; &lt;b&gt; · 25 €"`,
		`property="og:description" content="Two"`, `property="og:image" content="https://shop.example/` + image + `"`} {
		if !strings.Contains(og, want) {
			t.Errorf("%s\nhas no %s", og, want)
		}
	}
}

func loadedImage(t testing.TB, addr string) string {
	t.Helper()
	image := regexp.MustCompile(`"image":"([^"]+)"`).FindStringSubmatch(get(t, "http://"+addr+"/products").body)
	if image == nil {
		t.Fatal("no image")
	}
	return image[1]
}

// A page that uses no template actions is rendered as it stands.
func TestAPlainIndexIsRenderedAsItStands(t *testing.T) {
	w := newTown(t)
	text := `<!doctype html><html><head><title>x</title></head><body data-x="a &amp; b"><svg><use href="#m"></use></svg></body></html>`
	_, addr := open(t, w, nil, withIndex(t, text))
	r := get(t, "http://"+addr+"/")
	if got := regexp.MustCompile(`(?m)^  <meta property="og:[^\n]*\n`).ReplaceAllString(strings.Replace(r.body, "<title>x</title>", "<title>x</title>\n", 1), ""); strings.ReplaceAll(got, "\n", "") != text {
		t.Errorf("%s", r.body)
	}
}

const asHTML = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"

func wantHTML(t testing.TB, r reply, status int, words ...string) {
	t.Helper()
	if r.StatusCode != status || r.Header.Get("Content-Type") != "text/html; charset=utf-8" || r.Header.Get("Content-Security-Policy") != testCSP {
		t.Errorf("%d %v, want %d", r.StatusCode, r.Header, status)
	}
	if r.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("Cache-Control %q", r.Header.Get("Cache-Control"))
	}
	for _, w := range words {
		if !strings.Contains(r.body, w) {
			t.Errorf("%s\nhas no %s", r.body, w)
		}
	}
}

// A form without JavaScript is answered with a page, and reloading that is a replay.
func TestAFormIsAnsweredWithAPage(t *testing.T) {
	w := newTown(t, "tshirt")
	_, addr := open(t, w, func(c *Config) {
		c.Listings = []Listing{{Product: "tshirt", Title: "A <shirt>", NextURL: "https://shop.example/pay?a=b"}}
	})
	form := func(body string, header ...string) reply {
		t.Helper()
		return send(t, "POST", "http://"+addr+"/buy", body, append([]string{"Content-Type", asForm, "Accept", asHTML}, header...)...)
	}
	body := "email=a%40b.de&product=tshirt&quantity=2&key=k1"
	first := form(body)
	wantHTML(t, first, 202, "Your order is in the queue", "2 × A &lt;shirt&gt;", `name="key" value="k1"`, `name="email" value="a@b.de"`, `name="quantity" value="2"`, `action="./buy"`, "?product=tshirt", "Look again")
	location := first.Header.Get("Location")
	if !strings.HasPrefix(location, "/orders/") {
		t.Errorf("Location %q", location)
	}
	again := form(body) // a reload, or the button
	wantHTML(t, again, 202, "Your order is in the queue")
	if w.orders() != 1 || again.Header.Get("Location") != location || again.Header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("%d orders, %v", w.orders(), again.Header)
	}
	w.decide(t)
	wantHTML(t, form(body), 202, "Your order has been approved", "<dt>Place</dt><dd>1</dd>", `href="https://shop.example/pay?a=b&amp;order=`+strings.TrimPrefix(location, "/orders/"), "noreferrer")

	// The key may come either way; JSON has no such field.
	if r := form(body, "Idempotency-Key", "k1"); r.StatusCode != 202 || w.orders() != 1 {
		t.Errorf("both alike: %d, %d orders", r.StatusCode, w.orders())
	}
	wantHTML(t, form(body, "Idempotency-Key", "k2"), 400, "key", "header")
	wantHTML(t, form("email=a%40b.de&key="), 400, "The field key must be")
	wantHTML(t, form("email=a%40b.de&key=a%20b"), 400, "The field key must be")
	wantHTML(t, form("email=a%40b.de&key=a&key=b"), 400, "more than once")
	wantHTML(t, form("email=a%40b.de&quantity=3&key=k1"), 422, "Idempotency-Key reused")
	wantProblem(t, buy(t, addr, `{"email":"a@b.de","key":"k"}`), 400, "key")
	r := send(t, "POST", "http://"+addr+"/buy", "email=c%40b.de&key=k9", "Content-Type", asForm)
	if bought(t, r) != sale.KeyedID("c@b.de", "tshirt", "k9") {
		t.Errorf("%s", r.body)
	}

	// What may succeed later can be sent again; the rest cannot.
	wantHTML(t, form("email=a%40b.de&quantity=2&product=tshirt&key=k4&color=red"), 400, "color")
	wantHTML(t, form("email=<x>&key=k5"), 400, "A field is not valid")
	w.steer(t, "tshirt", paused(true))
	later := form("email=a%40b.de&product=tshirt&key=k6")
	wantHTML(t, later, 409, "paused", `name="key" value="k6"`, "Try again")
	if later.Header.Get("Retry-After") != "5" {
		t.Errorf("%v", later.Header)
	}
	if r := form("email=a%40b.de&product=tshirt"); r.StatusCode != 409 || strings.Contains(r.body, "<form") {
		t.Errorf("without a key: %s", r.body)
	}
	w.steer(t, "tshirt", paused(false))
	w.steer(t, "tshirt", left(0))
	if r := form("email=a%40b.de&product=tshirt&key=k7"); r.StatusCode != 409 || strings.Contains(r.body, "<form") {
		t.Errorf("sold out: %s", r.body)
	}
	wantHTML(t, send(t, "POST", "http://"+addr+"/buy", body, "Content-Type", asForm, "Accept", asHTML, "Origin", "https://evil.example"), 403, "Origin not allowed")
}

// Scripts get problems as JSON, whatever they do not say.
func TestPeopleReadProblems(t *testing.T) {
	w := newTown(t, "tshirt")
	_, addr := open(t, w, nil)
	for path, up := range map[string]string{"/nothing": "./", "/orders/none/at/all": "../../../", "/products/car": "../"} {
		wantHTML(t, get(t, "http://"+addr+path, "Accept", asHTML), 404, `href="`+up+`"`, `href="`+up+"page-"+loadPage().hash+"/style.css")
	}
	wantHTML(t, get(t, "http://"+addr+"/buy", "Accept", asHTML), 405)
	for _, accept := range []string{"", "*/*", "application/json", "application/json, text/html", "text/html;q=0.5, application/json", "text/html;q=0",
		"text/htmlx", "application/problem+json, text/html;q=0.9"} {
		wantProblem(t, get(t, "http://"+addr+"/nothing", "Accept", accept), 404)
		if r := buy(t, addr, orderBody("a@b.de"), "Accept", accept); r.Header.Get("Content-Type") != asJSON {
			t.Errorf("%s: %v", accept, r.Header)
		}
	}
	for _, accept := range []string{"text/html", "Text/HTML; q=1", "application/json;q=0.5, text/html;q=0.8"} {
		r := get(t, "http://"+addr+"/nothing", "Accept", accept)
		if want := strings.Contains(accept, "text/html"); (r.Header.Get("Content-Type") == "text/html; charset=utf-8") != want {
			t.Errorf("%s: %v", accept, r.Header)
		}
	}
}
