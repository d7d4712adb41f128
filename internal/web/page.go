package web

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"path"
	"strings"

	"github.com/gofiber/fiber/v2"
)

//go:embed page
var page embed.FS

// pageTypes are the files that are served; others in the folder are not.
var pageTypes = map[string]string{
	".html":  "text/html; charset=utf-8",
	".css":   "text/css; charset=utf-8",
	".js":    "text/javascript; charset=utf-8",
	".svg":   "image/svg+xml",
	".png":   "image/png",
	".woff2": "font/woff2",
}

// pageFile is a file of the buyer's page. Browsers keep it and revalidate it at each
// use.
type pageFile struct {
	body        []byte
	contentType string
	etag        string
}

// pageFiles are all files by URL path: the folder is /page, and index.html is / alone,
// as its URLs are relative.
func pageFiles() map[string]*pageFile {
	files := map[string]*pageFile{}
	err := fs.WalkDir(page, "page", func(name string, d fs.DirEntry, err error) error {
		contentType := pageTypes[path.Ext(name)]
		if err != nil || d.IsDir() || contentType == "" {
			return err
		}
		body, err := page.ReadFile(name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(body)
		f := &pageFile{body, contentType, `"` + hex.EncodeToString(sum[:16]) + `"`}
		if name == "page/index.html" {
			name = ""
		}
		files["/"+name] = f
		return nil
	})
	if err != nil {
		panic("web: the embedded page cannot be read: " + err.Error()) // it is in the binary
	}
	return files
}

func (f *pageFile) serve(c *fiber.Ctx) error {
	r := c.Response()
	r.Header.Set(fiber.HeaderETag, f.etag)
	r.Header.Set(fiber.HeaderCacheControl, "no-cache")
	r.Header.Set(fiber.HeaderXContentTypeOptions, "nosniff")
	r.Header.Set(fiber.HeaderContentSecurityPolicy, "default-src 'self'; connect-src 'self' ws: wss:; "+
		"frame-ancestors 'none'; base-uri 'none'; form-action 'self'") // a page that frames this one could make visitors buy
	if seen := c.Get(fiber.HeaderIfNoneMatch); seen == "*" || strings.Contains(seen, f.etag) {
		c.Status(fiber.StatusNotModified)
		return nil
	}
	r.Header.SetContentType(f.contentType)
	r.SetBodyRaw(f.body)
	return nil
}
