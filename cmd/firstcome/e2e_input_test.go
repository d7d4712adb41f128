package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// What is no order gets a clear answer and changes nothing.
func TestBadInputChangesNothing(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), "products: [ { id: tshirt, stock: 5 }, { id: mug, stock: 5 } ]")
	_, js := jet(t, s.nats)
	_, value := stockValue(t, js)
	revision, queued := value.Revision(), lastSeq(t, js, "ORDERS")

	const asJSON, asForm = "application/json", "application/x-www-form-urlencoded"
	order := func(email string) string { return fmt.Sprintf(`{"email":%s,"product":"tshirt"}`, email) }
	amount := func(quantity string) string {
		return fmt.Sprintf(`{"email":"a@b.cc","product":"tshirt","quantity":%s}`, quantity)
	}
	for name, c := range map[string]struct {
		media, body string
		header      []string
		code        int
		names       string // in the detail
	}{
		"empty body":            {asJSON, ``, nil, 400, ""},
		"empty form":            {asForm, ``, nil, 400, "email"},
		"not JSON":              {asJSON, `{"email":`, nil, 400, ""},
		"array":                 {asJSON, `[]`, nil, 400, ""},
		"null":                  {asJSON, `null`, nil, 400, ""},
		"trailing data":         {asJSON, order(`"a@b.cc"`) + `{}`, nil, 400, ""},
		"unknown field":         {asJSON, `{"email":"a@b.cc","product":"tshirt","Quantity":1}`, nil, 400, "Quantity"},
		"field twice":           {asJSON, `{"email":"a@b.cc","email":"a@b.cc","product":"tshirt"}`, nil, 400, "email"},
		"email missing":         {asJSON, `{"product":"tshirt"}`, nil, 400, "email"},
		"email null":            {asJSON, order(`null`), nil, 400, "email"},
		"email a number":        {asJSON, order(`7`), nil, 400, "email"},
		"email empty":           {asJSON, order(`""`), nil, 400, "email"},
		"email with a name":     {asJSON, order(`"Bob <a@b.cc>"`), nil, 400, "email"},
		"email without a dot":   {asJSON, order(`"a@b"`), nil, 400, "email"},
		"email of 300 bytes":    {asJSON, order(`"` + strings.Repeat("a", 60) + "@" + strings.Repeat("b.", 118) + `cc"`), nil, 400, "email"},
		"email with CR LF":      {asJSON, order(`"a@b.cc\r\nX: y"`), nil, 400, "email"},
		"email with NUL":        {asJSON, order(`"a\u0000@b.cc"`), nil, 400, "email"},
		"email with a space":    {asJSON, order(`" a@b.cc"`), nil, 400, "email"},
		"email quoted":          {asJSON, order(`"\"<img>\"@x.com"`), nil, 400, "email"},
		"email not ASCII":       {asJSON, order(`"ü@b.cc"`), nil, 400, "email"},
		"form email with CR LF": {asForm, "email=a%40b.cc%0D%0A&product=tshirt", nil, 400, "email"},
		"form email twice":      {asForm, "email=a%40b.cc&email=c%40d.ee&product=tshirt", nil, 400, "email"},
		"form unknown field":    {asForm, "email=a%40b.cc&product=tshirt&x=1", nil, 400, "x"},
		"quantity 0":            {asJSON, amount(`0`), nil, 400, "quantity"},
		"quantity -1":           {asJSON, amount(`-1`), nil, 400, "quantity"},
		"quantity 1.5":          {asJSON, amount(`1.5`), nil, 400, "quantity"},
		"quantity 1.0":          {asJSON, amount(`1.0`), nil, 400, "quantity"},
		"quantity 10^12":        {asJSON, amount(`1000000000000`), nil, 400, "quantity"},
		"quantity 1e2":          {asJSON, amount(`1e2`), nil, 400, "quantity"},
		"quantity 1001":         {asJSON, amount(`1001`), nil, 400, "quantity"},
		"quantity a string":     {asJSON, amount(`"1"`), nil, 400, "quantity"},
		"quantity null":         {asJSON, amount(`null`), nil, 400, "quantity"},
		"form quantity empty":   {asForm, "email=a%40b.cc&product=tshirt&quantity=", nil, 400, "quantity"},
		"product missing":       {asJSON, `{"email":"a@b.cc"}`, nil, 400, "product"},
		"product empty":         {asJSON, `{"email":"a@b.cc","product":""}`, nil, 400, "product"},
		"product malformed":     {asJSON, `{"email":"a@b.cc","product":"T shirt"}`, nil, 400, "product"},
		"product a wildcard":    {asJSON, `{"email":"a@b.cc","product":"*"}`, nil, 400, "product"},
		"product unknown":       {asJSON, `{"email":"a@b.cc","product":"hat"}`, nil, 404, ""},
		"key empty":             {asJSON, order(`"a@b.cc"`), []string{"Idempotency-Key", ""}, 400, "Idempotency-Key"},
		"key with a space":      {asJSON, order(`"a@b.cc"`), []string{"Idempotency-Key", "a b"}, 400, "Idempotency-Key"},
		"key of 256 bytes":      {asJSON, order(`"a@b.cc"`), []string{"Idempotency-Key", strings.Repeat("k", 256)}, 400, "Idempotency-Key"},
		"body over 4 KiB":       {asJSON, order(`"a@b.cc"`) + strings.Repeat(" ", 4096), nil, 413, ""},
		"text":                  {"text/plain", order(`"a@b.cc"`), nil, 415, ""},
		"no type":               {"", order(`"a@b.cc"`), nil, 415, ""},
		"compressed":            {asJSON, zipped(order(`"a@b.cc"`)), []string{"Content-Encoding", "gzip"}, 415, ""},
		"foreign origin":        {asJSON, order(`"a@b.cc"`), []string{"Origin", "https://evil.example"}, 403, ""},
		"headers over 8 KiB":    {asJSON, order(`"a@b.cc"`), []string{"X-Long", strings.Repeat("x", 9000)}, 431, ""},
	} {
		t.Run(name, func(t *testing.T) {
			header := c.header
			if c.media != "" {
				header = append(header, "Content-Type", c.media)
			}
			a, err := s.ask("POST", "/buy", c.body, header...)
			if err != nil {
				t.Fatal(err)
			}
			if detail := a.problem(t, c.code); !strings.Contains(detail, c.names) {
				t.Errorf("the detail %q does not name %s", detail, c.names)
			}
		})
	}
	for target, code := range map[string]int{
		"/orders": 400, "/orders?email=a@b": 400, "/orders/x?email=a@b.cc": 404, "/ws?email=Bob": 400,
		"/products/hat": 404, "/products/T%20shirt": 404, "/nowhere": 404, "/..%2f..%2fetc/passwd": 404,
	} {
		s.get(target).problem(t, code)
	}
	a, err := s.ask("PUT", "/buy", "")
	if err != nil {
		t.Fatal(err)
	}
	if a.problem(t, http.StatusMethodNotAllowed); a.header.Get("Allow") == "" {
		t.Error("405 without Allow")
	}
	for _, raw := range []string{
		"POST /buy HTTP/1.1\r\n\r\n",
		"POST /buy HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
		"POST /buy HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99999999999\r\n\r\n{",
		"POST /buy HTTP/1.1\r\nHost: x\r\nX: \x00\r\nContent-Length: 0\r\n\r\n",
		"\x00\x01\x02\r\n\r\n",
	} {
		if code := exchange(t, s.http, raw); code < 400 || code > 499 {
			t.Errorf("%q was answered %d", raw, code)
		}
	}

	if _, value := stockValue(t, js); value.Revision() != revision {
		t.Errorf("the stock's revision went from %d to %d", revision, value.Revision())
	}
	if n := lastSeq(t, js, "ORDERS"); n != queued {
		t.Errorf("the queue went from %d to %d", queued, n)
	}
	s.follow("a@b.cc").outcome(s.buy("a@b.cc", 1).order(t).ID) // alive and well
	s.auditGreen()
	s.stop()
}

func zipped(text string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write([]byte(text)) // a buffer takes everything
	_ = w.Close()
	return b.String()
}

// exchange sends bytes that need not be HTTP and returns the answer's status.
func exchange(t *testing.T, addr, raw string) int {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte(raw)); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("%q: %v", raw, err)
	}
	res.Body.Close()
	return res.StatusCode
}
