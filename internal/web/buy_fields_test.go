package web

import (
	"encoding/json"
	"strings"
	"testing"
)

// FuzzJSONBody holds the two readers together, and the strict one to encoding/json.
func FuzzJSONBody(f *testing.F) {
	for _, seed := range []string{
		``, `{}`, ` { } `, `{"email":"a@b.de"}`, `{"email":"a@b.de","product":"tshirt","quantity":1}`,
		`{"quantity":10,"email":"A@b.de"}`, `{"email":"a@b.de",}`, `{"email":"a@b.de"}x`, `{"email":"a","email":"b"}`,
		`{"quantity":01}`, `{"quantity":-1}`, `{"quantity":1.0}`, `{"quantity":1e3}`, `{"quantity":"1"}`, `{"quantity":99999999999999999999}`,
		`{"email":null}`, `{"email":"\u0061"}`, `{"em\u0061il":"x"}`, `{"email":"ü"}`, "{\"email\":\"\xff\"}", "{\"email\":\"a\nb\"}",
		`[{"email":"a"}]`, `{"Email":"a"}`, `{"a":{"b":[1,2,{}]}}`, "\ufeff{}", `{"quantity":1 2}`, `{"quantity":}`, `{"email" "a"}`, `{"email":"a"`, `{,"email":"a"}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		strict, err := parseJSON(body)
		if fast, ok := scanJSON(body); ok && (err != nil || fast != strict) {
			t.Fatalf("%q: fast %+v, strict %+v %v", body, fast, strict, err)
		}
		if err != nil {
			if p := err.(*problem); p.status != 400 || !json.Valid(p.body) {
				t.Fatalf("%q: %d %s", body, p.status, p.body)
			}
			return
		}
		var want map[string]any
		d := json.NewDecoder(strings.NewReader(body))
		d.UseNumber()
		if err := d.Decode(&want); err != nil {
			t.Fatalf("%q was read as %+v: %v", body, strict, err)
		}
		given := 0
		for name, v := range want {
			into := strict.named(name)
			if into == nil || !into.given {
				t.Fatalf("%q: %s is not in %+v", body, name, strict)
			}
			given++
			switch v := v.(type) {
			case string:
				if into == &strict.quantity || into.text != v {
					t.Fatalf("%q: %s in %+v", body, name, strict)
				}
			case json.Number:
				if into != &strict.quantity || into.text != v.String() {
					t.Fatalf("%q: %s in %+v", body, name, strict)
				}
			default:
				t.Fatalf("%q: %s is %T", body, name, v)
			}
		}
		for _, into := range []field{strict.email, strict.product, strict.quantity} {
			if into.given {
				given--
			}
		}
		if given != 0 {
			t.Fatalf("%q: %+v", body, strict)
		}
	})
}

// FuzzFormBody: a body is refused with a problem, or has known fields only.
func FuzzFormBody(f *testing.F) {
	for _, seed := range []string{"", "email=a%40b.de&quantity=1", "email", "email=&email=", "x=1", "a=%zz", "a;b", "&&", "email=a+b", "=", "%65mail=x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		got, err := readForm(body)
		if err != nil {
			if p := err.(*problem); p.status != 400 || !json.Valid(p.body) {
				t.Fatalf("%q: %d %s", body, p.status, p.body)
			}
			return
		}
		if _, err := got.check(); err != nil {
			if p := err.(*problem); p.status != 400 || !json.Valid(p.body) {
				t.Fatalf("%q: %d %s", body, p.status, p.body)
			}
		}
	})
}

// The common shape does not take the strict reader.
func TestTheCommonShapeIsScanned(t *testing.T) {
	for _, body := range []string{
		`{"email":"a@b.de","product":"tshirt","quantity":1}`,
		"{ \"quantity\" : 12,\n\t\"email\" : \"a@b.de\" }\n",
		`{"email":""}`,
	} {
		if f, ok := scanJSON(body); !ok || !f.email.given {
			t.Errorf("%s: %+v", body, f)
		}
	}
}
