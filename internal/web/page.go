package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strings"
	"sync"

	"github.com/gofiber/fiber/v2"
)

//go:embed page
var pageFolder embed.FS

// pageTypes are the files that are served; others in the folder are not.
var pageTypes = map[string]string{
	".css":   "text/css; charset=utf-8",
	".js":    "text/javascript; charset=utf-8",
	".svg":   "image/svg+xml",
	".png":   "image/png",
	".woff2": "font/woff2",
}

// page is the buyers' page: its files, and the template of the page itself.
//
//	/                   rendered, see render
//	/page-<hash>/<name> for a year: any change of any file is another hash
//	/page/<name>        asked for again each time, as is /client.js
//
// A folder that has the hash in its name leaves the imports between its files as they are.
type page struct {
	files map[string]*pageFile // by name in the folder
	hash  string               // of all files
	index string               // the template's text
}

type pageFile struct {
	body, zipped []byte // zipped is nil where that is not smaller
	contentType  string
	etag         string // of body, without quotes
}

// loadPage reads the embedded page, once.
var loadPage = sync.OnceValue(func() *page {
	p, err := readPage(pageFolder)
	if err != nil {
		panic("web: the embedded page cannot be read: " + err.Error()) // it is in the binary
	}
	return p
})

func readPage(folder fs.FS) (*page, error) {
	p := &page{files: map[string]*pageFile{}}
	sum := sha256.New()
	err := fs.WalkDir(folder, "page", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := fs.ReadFile(folder, name)
		if err != nil {
			return err
		}
		if name == "page/index.html" {
			p.index = string(body)
		}
		contentType := pageTypes[path.Ext(name)]
		if contentType == "" {
			return nil
		}
		f, err := newPageFile(body, contentType)
		fmt.Fprintf(sum, "%s %d\n%s", name, len(body), body)
		p.files[strings.TrimPrefix(name, "page/")] = f
		return err
	})
	p.hash = hex.EncodeToString(sum.Sum(nil)[:8])
	return p, err
}

func newPageFile(body []byte, contentType string) (*pageFile, error) {
	sum := sha256.Sum256(body)
	f := &pageFile{body: body, contentType: contentType, etag: hex.EncodeToString(sum[:16])}
	var zipped bytes.Buffer
	w, err := gzip.NewWriterLevel(&zipped, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(body); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	if zipped.Len() < len(body) {
		f.zipped = zipped.Bytes()
	}
	return f, nil
}

// assetURL is a URL of the page's folder in HTML: after a quote, or after the template's
// base.
var assetURL = regexp.MustCompile(`(["']|\}\})page/`)

// hashed is HTML whose assets have their hash.
func (p *page) hashed(html string) string {
	return assetURL.ReplaceAllString(html, "${1}page-"+p.hash+"/")
}

// serveVersioned serves a file under the hash of the page. Under another one, which an
// instance of another version gave out, there is what is here now.
func (p *page) serveVersioned(c *fiber.Ctx) error {
	f := p.files[c.Params("*")]
	if f == nil {
		return errNoPath
	}
	if c.Params("version") != p.hash {
		return f.serve(c, cacheAsk)
	}
	return f.serve(c, cacheYear)
}

func (p *page) servePlain(c *fiber.Ctx) error {
	f := p.files[c.Params("*")]
	if f == nil {
		return errNoPath
	}
	return f.serve(c, cacheAsk)
}

// serveClient serves the module that front ends import.
func (p *page) serveClient(c *fiber.Ctx) error {
	f := p.files["client.js"]
	if f == nil {
		return errNoPath
	}
	return f.serve(c, cacheAsk)
}

func (f *pageFile) serve(c *fiber.Ctx, caching string) error {
	r := c.Response()
	r.Header.Set(fiber.HeaderCacheControl, caching)
	r.Header.SetCanonical(headerVary, varyCoding)
	protect(c)
	body, etag := f.body, `"`+f.etag+`"`
	if f.zipped != nil && takesGzip(c) {
		body, etag = f.zipped, `"`+f.etag+`-gzip"`
		r.Header.Set(fiber.HeaderContentEncoding, "gzip")
	}
	if unchanged(c, etag) {
		r.Header.Del(fiber.HeaderContentEncoding)
		return nil
	}
	r.Header.SetContentType(f.contentType)
	r.SetBodyRaw(body)
	return nil
}

var varyCoding = []byte("Origin, Accept-Encoding")

// protect sets the headers of what a browser shows.
func protect(c *fiber.Ctx) {
	h := &c.Response().Header
	h.Set(fiber.HeaderXContentTypeOptions, "nosniff")
	h.Set(fiber.HeaderContentSecurityPolicy, "default-src 'self'; connect-src 'self' ws: wss:; "+
		"frame-ancestors 'none'; base-uri 'none'; form-action 'self'") // a page that frames this one could make visitors buy
}

func takesGzip(c *fiber.Ctx) bool {
	q, listed := quality(c.Get(fiber.HeaderAcceptEncoding), "gzip")
	return listed && q > 0
}
