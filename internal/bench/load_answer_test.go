package bench

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
)

const answerText = "HTTP/1.1 202 Accepted\r\nDate: Thu\r\ncontent-length:  5\r\nLocation: /orders/x\r\n\r\nhello"

func TestParseAnswer(t *testing.T) {
	for n := range len(answerText) {
		if _, size, err := parseAnswer([]byte(answerText[:n])); size != 0 || err != nil {
			t.Fatalf("the first %d bytes are read as an answer of %d: %v", n, size, err)
		}
	}
	a, size, err := parseAnswer([]byte(answerText + "more"))
	if err != nil || a.status != 202 || string(a.body) != "hello" || size != len(answerText) || a.closes {
		t.Fatalf("%+v %d %v", a, size, err)
	}
	a, _, err = parseAnswer([]byte("HTTP/1.1 409\r\nContent-Length: 0\r\nConnection: Close\r\n\r\n"))
	if err != nil || a.status != 409 || !a.closes || len(a.body) != 0 {
		t.Fatalf("%+v %v", a, err)
	}
	for name, text := range map[string]string{
		"another protocol":    "SSH-2.0-OpenSSH\r\n\r\n",
		"no number":           "HTTP/1.1 2x2 OK\r\nContent-Length: 0\r\n\r\n",
		"an interim status":   "HTTP/1.1 100 Continue\r\nContent-Length: 0\r\n\r\n",
		"no length":           "HTTP/1.1 200 OK\r\n\r\n",
		"two lengths":         "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
		"a negative length":   "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
		"a length beyond all": "HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n",
		"chunks":              "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"no header":           "HTTP/1.1 200 OK\r\nContent\r\n\r\n",
	} {
		if a, _, err := parseAnswer([]byte(text)); err == nil {
			t.Errorf("%s: read as %+v", name, a)
		}
	}
}

func TestRefusedAs(t *testing.T) {
	for body, want := range map[string]string{
		`{"title":"x","detail":"try again"}`: "answer 503: try again",
		`<html>`:                             "answer 503",
		`{"detail":"` + strings.Repeat("long", 40) + `"}`: "answer 503",
	} {
		if got := (answer{status: 503, body: []byte(body)}).refusedAs(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestWhichAnswersLeaveAnOrderUncertain(t *testing.T) {
	problem := func(kind string) string {
		return `{"type":"urn:firstcome:` + kind + `","title":"shutting-down","status":503,"detail":"queue-full","message":"shop-full"}`
	}
	for _, c := range []struct {
		status    int
		body      string
		uncertain bool
	}{
		{503, problem("shutting-down"), false},
		{503, problem("queue-full"), false},
		{503, problem("shop-full"), false},
		{503, problem("stuck"), false},
		{503, problem("unavailable"), true},
		{503, problem("something-new"), true},
		{503, `{"type":"about:blank"}`, true},
		{503, `<html>a proxy's</html>`, true}, // the order may have gone through
		{503, "", true},
		{500, problem("internal-error"), true},
		{504, "", true},
		{400, problem("malformed-body"), false},
		{429, problem("too-many-orders"), false},
	} {
		if got := (answer{status: c.status, body: []byte(c.body)}).uncertain(); got != c.uncertain {
			t.Errorf("%d %s: uncertain %t", c.status, c.body, got)
		}
	}
}

// What is read as an answer, the standard library reads the same way.
func FuzzParseAnswer(f *testing.F) {
	f.Add([]byte(answerText))
	f.Add([]byte("HTTP/1.1 409\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length:1\r\nA:\r\n\r\nx"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx"))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, size, err := parseAnswer(b)
		if err != nil || size == 0 {
			return
		}
		if size > len(b) || !bytes.HasSuffix(b[:size], a.body) {
			t.Fatalf("%q: size %d, body %q", b, size, a.body)
		}
		head := string(b[:size-len(a.body)])
		if strings.Count(head, "\n") != strings.Count(head, "\r\n") || strings.Count(head, "\r") != strings.Count(head, "\r\n") {
			return // the standard library also ends lines at a bare LF
		}
		std, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(b)), nil)
		if err != nil || a.status == 204 || a.status == 304 {
			return // stricter, or without a body by the status
		}
		defer std.Body.Close()
		body, err := io.ReadAll(std.Body)
		if err != nil || std.StatusCode != a.status || !bytes.Equal(body, a.body) {
			t.Fatalf("%q: %d %q, want %d %q (%v)", b, a.status, a.body, std.StatusCode, body, err)
		}
	})
}
