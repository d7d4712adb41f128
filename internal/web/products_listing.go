package web

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/gofiber/fiber/v2"

	"firstcome/internal/sale"
)

// Listing is how a product is shown: what the configuration says of it, not the history.
type Listing struct {
	Product     sale.ProductID
	Title       string
	Description string
	Price       string
	NextURL     string // for buyers with an approved order, as CheckNextURL wants it
	Image       []byte // as ReadImage returns it; nil: none
}

const (
	maxImage = 1 << 20 // bytes
	maxText  = 4 << 10 // bytes of a title, a description or a price
)

// ReadImage reads the picture of a product. It fails unless the file is a PNG, JPEG, WebP
// or AVIF of at most 1 MiB.
func ReadImage(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read: closing cannot lose anything
	data, err := io.ReadAll(io.LimitReader(f, maxImage+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxImage {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, maxImage)
	}
	if imageType(data) == "" {
		return nil, fmt.Errorf("%s is no PNG, JPEG, WebP or AVIF", path)
	}
	return data, nil
}

// imageType is the media type that the first bytes tell, "" if it is none that is shown.
func imageType(data []byte) string {
	switch {
	case bytes.HasPrefix(data, []byte("\x89PNG\r\n\x1a\n")):
		return "image/png"
	case bytes.HasPrefix(data, []byte("\xff\xd8\xff")):
		return "image/jpeg"
	case len(data) >= 12 && string(data[:4]) == "RIFF" && string(data[8:12]) == "WEBP":
		return "image/webp"
	case len(data) >= 16 && string(data[4:8]) == "ftyp" && isAVIF(data):
		return "image/avif"
	}
	return ""
}

// isAVIF looks for a brand of AVIF in a file type box (ISO 14496-12, 4.3): the major
// brand, a version, and the compatible brands.
func isAVIF(data []byte) bool {
	size := int(data[0])<<24 | int(data[1])<<16 | int(data[2])<<8 | int(data[3])
	for at := 8; at+4 <= min(size, len(data)); at += 4 {
		if brand := string(data[at : at+4]); at != 12 && (brand == "avif" || brand == "avis") {
			return true
		}
	}
	return false
}

// CheckNextURL returns an error unless buyers can be sent there: https, or http on this
// machine.
func CheckNextURL(address string) error {
	u, err := url.Parse(address)
	if err != nil || !isHostPort(u) || u.User != nil || u.Scheme != "https" && u.Scheme != "http" {
		return fmt.Errorf("must be a URL such as https://shop.example.com/checkout, is %q", address)
	}
	if u.Scheme == "http" && !isLoopback(u.Host) {
		return fmt.Errorf("must begin with https://, as the order goes along, is %q", address)
	}
	if u.Fragment != "" {
		return fmt.Errorf("must have no fragment, is %q", address)
	}
	return nil
}

// CheckText returns an error for a text of a listing that pages should not show.
func CheckText(text string) error {
	switch {
	case !utf8.ValidString(text):
		return fmt.Errorf("must be UTF-8 text")
	case len(text) > maxText:
		return fmt.Errorf("must be at most %d bytes, has %d", maxText, len(text))
	case strings.ContainsFunc(text, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }):
		return fmt.Errorf("must have no control characters but line breaks, is %q", text)
	}
	return nil
}

// listings are the configured ones, in their order.
type listings struct {
	all []*listing
	of  map[sale.ProductID]*listing
}

type listing struct {
	Listing
	rank  int
	texts []byte // as JSON members, each with its comma
	image string // its relative URL, "" without
	hash  string // of the image
	kind  string // of the image
}

func newListings(given []Listing) (listings, error) {
	l := listings{of: map[sale.ProductID]*listing{}}
	for i, g := range given {
		one := &listing{Listing: g, rank: i}
		if g.Image != nil {
			if one.kind = imageType(g.Image); one.kind == "" {
				return l, fmt.Errorf("the image of %s is no PNG, JPEG, WebP or AVIF", g.Product)
			}
			sum := sha256.Sum256(g.Image)
			one.hash = hex.EncodeToString(sum[:8])
			one.image = "products/" + string(g.Product) + "/image?v=" + one.hash
		}
		if g.NextURL != "" {
			if err := CheckNextURL(g.NextURL); err != nil {
				return l, fmt.Errorf("next_url of %s %w", g.Product, err)
			}
		}
		for _, text := range []struct{ name, value string }{
			{"title", g.Title}, {"description", g.Description}, {"price", g.Price}, {"image", one.image}, {"next_url", g.NextURL},
		} {
			if text.value == "" {
				continue
			}
			if err := CheckText(text.value); err != nil {
				return l, fmt.Errorf("%s of %s %w", text.name, g.Product, err)
			}
			value, err := json.Marshal(text.value)
			if err != nil {
				return l, err
			}
			one.texts = append(append(append(append(one.texts, `,"`...), text.name...), `":`...), value...)
		}
		l.all = append(l.all, one)
		l.of[g.Product] = one
	}
	return l, nil
}

// rank is where a product stands: the configured ones first.
func (l *listings) rank(id sale.ProductID) int {
	if one := l.of[id]; one != nil {
		return one.rank
	}
	return len(l.all)
}

// showImage serves the picture of a product. Its URL has its hash, so it is kept for a
// year; without the hash it is asked for again each time.
func (s *Server) showImage(c *fiber.Ctx) error {
	one := s.listings.of[sale.ProductID(c.Params("id"))]
	if one == nil || one.image == "" {
		return errNoPath
	}
	r := c.Response()
	caching := cacheAsk
	if string(c.Context().QueryArgs().Peek("v")) == one.hash {
		caching = cacheYear
	}
	r.Header.Set(fiber.HeaderCacheControl, caching)
	r.Header.Set(fiber.HeaderXContentTypeOptions, "nosniff")
	if unchanged(c, `"`+one.hash+`"`) {
		return nil
	}
	r.Header.SetContentType(one.kind)
	r.SetBodyRaw(one.Image)
	return nil
}

// How long what is served may be kept.
const (
	cacheAsk  = "no-cache"
	cacheYear = "public, max-age=31536000, immutable"
)

// unchanged sets the ETag, and answers 304 if the client has that one (RFC 9110, 13.1.2).
func unchanged(c *fiber.Ctx, etag string) bool {
	r := c.Response()
	r.Header.Set(fiber.HeaderETag, etag)
	for _, line := range c.Request().Header.PeekAll(fiber.HeaderIfNoneMatch) {
		for tag := range strings.SplitSeq(string(line), ",") {
			if tag = strings.Trim(tag, " \t"); tag == "*" || strings.TrimPrefix(tag, "W/") == etag {
				r.SetStatusCode(fiber.StatusNotModified)
				return true
			}
		}
	}
	return false
}
