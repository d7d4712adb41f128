package web

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	testPNG  = "\x89PNG\r\n\x1a\nrest"
	testJPEG = "\xff\xd8\xff\xe0rest"
	testWebP = "RIFF\x10\x00\x00\x00WEBPVP8 "
	testAVIF = "\x00\x00\x00\x1cftypmif1\x00\x00\x00\x00mif1avifmiaf"
)

func TestImageTypes(t *testing.T) {
	for data, want := range map[string]string{
		testPNG: "image/png", testJPEG: "image/jpeg", testWebP: "image/webp", testAVIF: "image/avif",
		"\x00\x00\x00\x10ftypavif\x00\x00\x00\x00": "image/avif",
		"":       "",
		"GIF89a": "",
		"<svg xmlns='http://www.w3.org/2000/svg'/>":            "",
		"RIFF\x10\x00\x00\x00WAVEfmt ":                         "",
		"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom":     "",
		"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heicavif": "", // after the box
		"\x00\x00\x00\x10ftypmif1avif":                         "", // the version
		"\xff\xff\xff\xffftypmif1\x00\x00\x00\x00a":            "",
	} {
		if got := imageType([]byte(data)); got != want {
			t.Errorf("%q: %q, want %q", data, got, want)
		}
	}
}

func TestReadImage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "image")
	for data, ok := range map[string]bool{testPNG: true, testPNG + strings.Repeat("x", maxImage-len(testPNG)): true,
		testPNG + strings.Repeat("x", maxImage-len(testPNG)+1): false, "GIF89a": false, "": false} {
		if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := ReadImage(path); (err == nil) != ok || ok && string(got) != data {
			t.Errorf("%d bytes: %v", len(data), err)
		}
	}
	for _, path := range []string{filepath.Join(t.TempDir(), "none"), t.TempDir()} {
		if _, err := ReadImage(path); err == nil {
			t.Errorf("%s was read", path)
		}
	}
}

// What the configuration says of products is in the API, in its order.
func TestListings(t *testing.T) {
	w := newTown(t, "cap", "mug", "tshirt", "bag")
	_, addr := open(t, w, func(c *Config) {
		c.Listings = []Listing{
			{Product: "tshirt", Title: `A "shirt" </script>`, Description: "Two\nlines", Price: "25 €", Image: []byte(testPNG), NextURL: "https://shop.example/pay?a=b&c"},
			{Product: "gone", Title: "Not sold"},
			{Product: "mug", Price: "9 €"},
		}
	})
	var all struct {
		Products []struct {
			ID, Title, Description, Price, Image string
			NextURL                              string `json:"next_url"`
		}
	}
	r := get(t, "http://"+addr+"/products")
	if err := json.Unmarshal([]byte(r.body), &all); err != nil {
		t.Fatalf("%s: %v", r.body, err)
	}
	var order []string
	for _, p := range all.Products {
		order = append(order, p.ID)
	}
	if got := strings.Join(order, " "); got != "tshirt mug bag cap" {
		t.Errorf("%s", got)
	}
	if p := all.Products[0]; p.Title != `A "shirt" </script>` || p.Description != "Two\nlines" || p.Price != "25 €" || p.NextURL != "https://shop.example/pay?a=b&c" {
		t.Errorf("%+v", p)
	}
	if !strings.Contains(r.body, `{"id":"mug","price":"9 €","available"`) || !strings.Contains(r.body, `{"id":"bag","available"`) {
		t.Errorf("%s", r.body)
	}
	image := all.Products[0].Image
	if !strings.HasPrefix(image, "products/tshirt/image?v=") {
		t.Errorf("image %q", image)
	}
	one := get(t, "http://"+addr+"/products/tshirt")
	if !strings.Contains(one.body, `"image":"`+image+`"`) {
		t.Errorf("%s", one.body)
	}

	r = get(t, "http://"+addr+"/"+image)
	if r.StatusCode != 200 || r.body != testPNG || r.Header.Get("Content-Type") != "image/png" || r.Header.Get("X-Content-Type-Options") != "nosniff" ||
		r.Header.Get("Cache-Control") != "public, max-age=31536000, immutable" {
		t.Errorf("%d %v", r.StatusCode, r.Header)
	}
	for _, path := range []string{"/products/tshirt/image", "/products/tshirt/image?v=old"} {
		r = get(t, "http://"+addr+path)
		if r.StatusCode != 200 || r.Header.Get("Cache-Control") != "no-cache" {
			t.Errorf("%s: %d %v", path, r.StatusCode, r.Header)
		}
		if again := get(t, "http://"+addr+path, "If-None-Match", r.Header.Get("ETag")); again.StatusCode != 304 || again.body != "" {
			t.Errorf("%s: %d", path, again.StatusCode)
		}
	}
	for _, path := range []string{"/products/mug/image", "/products/bag/image", "/products/car/image"} {
		wantProblem(t, get(t, "http://"+addr+path), 404)
	}
}

func TestBadListings(t *testing.T) {
	w := newTown(t, "mug")
	for _, l := range []Listing{{Image: []byte("GIF89a")}, {Image: []byte{}}, {NextURL: "http://shop.example"}, {Title: "\x00"}} {
		l.Product = "mug"
		if _, err := New(Config{Queue: w, Feed: w, Book: w.book, Listings: []Listing{l}}); err == nil || !strings.Contains(err.Error(), "mug") {
			t.Errorf("%+v: %v", l, err)
		}
	}
}
