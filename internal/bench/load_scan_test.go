package bench

import (
	"encoding/json"
	"strings"
	"testing"
)

const statusText = `{"id":"0198f1a2-0000-7000-8000-0123456789ab","product":"tshirt","email":"a@b.c","quantity":1,` +
	`"status":"accepted","message":"Your order has been approved","place":17,"rev":1,"placed_at":"2025-01-01T00:00:00Z"}`

func TestParseStatus(t *testing.T) {
	s, ok := parseStatus([]byte(statusText))
	if !ok || s.id.String() != "0198f1a2-0000-7000-8000-0123456789ab" || s.outcome != accepted || s.place != 17 {
		t.Fatalf("%+v %v", s, ok)
	}
	// Order, white space and what stands between do not matter.
	s, ok = parseStatus([]byte("\n{ \"place\" : null ,\t\"more\":{\"status\":\"}\\\"\",\"a\":[1,{}]}, \"status\" : \"sold_out\"," +
		` "id" : "0198f1a2-0000-7000-8000-0123456789ab" }`))
	if !ok || s.outcome != soldOut || s.place != 0 {
		t.Fatalf("%+v %v", s, ok)
	}
	for name, text := range map[string]string{
		"empty":          ``,
		"no object":      `[]`,
		"no id":          strings.Replace(statusText, `"id"`, `"ib"`, 1),
		"a bad id":       strings.Replace(statusText, `0198f1a2`, `0198f1ax`, 1),
		"no state":       strings.Replace(statusText, `"status"`, `"statu"`, 1),
		"another state":  strings.Replace(statusText, `accepted`, `excepted`, 1),
		"a bad place":    strings.Replace(statusText, `17`, `1.7`, 1),
		"cut in the id":  statusText[:20],
		"cut in the key": statusText[:3],
	} {
		if s, ok := parseStatus([]byte(text)); ok {
			t.Errorf("%s: read as %+v", name, s)
		}
	}
}

// Every member of a valid object is found, with the bytes of its value.
func FuzzMembers(f *testing.F) {
	for _, seed := range []string{
		statusText, `{}`, `{"a":1}`, ` { "a" : [ "]" , { "b" : "\\" } ] , "c" : -1.5e3 , "d":null}`,
		`{"type":"order","order":` + statusText + `}`, `{"type":"hello","email":"a@b.c","server_time":"x"}`,
		`{"a":"\\\"","b":"\""}`, `{"a"`, `{"a":`, `{"a":"`, `{"a":{`, `{"a":1}}`, `{,}`, "{\"a\":1\x00}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		found := map[string]string{}
		for m := members(b); ; {
			key, value, ok := m.next()
			if !ok {
				break
			}
			found[string(key)] = string(value)
		}
		parseStatus(b)
		var want map[string]json.RawMessage
		if json.Unmarshal(b, &want) != nil || strings.ContainsRune(string(b), '\\') || !json.Valid(b) {
			return // not an object, or with keys that are written in escapes
		}
		for key, value := range want {
			if strings.ContainsRune(key, '\ufffd') {
				return // not UTF-8: the decoder replaces what is kept here
			}
			if found[key] != string(value) {
				t.Fatalf("%q: member %q is %q, want %q", b, key, found[key], value)
			}
		}
		if len(found) != len(want) {
			t.Fatalf("%q: %d members, want %d", b, len(found), len(want))
		}
	})
}
