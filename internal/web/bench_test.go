package web

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"runtime"
	"testing"

	"github.com/valyala/fasthttp"

	"firstcome/internal/sale"
)

// counter is a queue that stores at once.
type counter struct{ *town }

func (counter) Place(context.Context, sale.ProductID, sale.Order) error { return nil }

func benchServer(b *testing.B) (*Server, *town) {
	w := newTown(b, "tshirt")
	s, err := New(Config{Queue: counter{w}, Feed: w, Book: w.book})
	if err != nil {
		b.Fatal(err)
	}
	s.app.Handler() // readies the routes
	return s, w
}

func benchHandler(b *testing.B, body string, want int, header ...string) {
	b.Helper()
	s, _ := benchServer(b)
	benchHandlerOf(b, s, body, want, header...)
}

func benchHandlerOf(b *testing.B, s *Server, body string, want int, header ...string) {
	b.Helper()
	handle := s.app.Server().Handler
	var ctx fasthttp.RequestCtx
	var req fasthttp.Request
	req.Header.SetMethod("POST")
	req.Header.SetRequestURI("/buy")
	req.Header.SetHost("127.0.0.1:4000")
	req.Header.SetContentType("application/json")
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	req.SetBodyString(body)
	ctx.Init(&req, nil, nil)
	b.ReportAllocs()
	for b.Loop() {
		ctx.Response.Reset()
		handle(&ctx)
		if ctx.Response.StatusCode() != want {
			b.Fatalf("%d %s", ctx.Response.StatusCode(), ctx.Response.Body())
		}
	}
}

const benchBody = `{"email":"buyer-123456@example.com","product":"tshirt","quantity":1}`

// BenchmarkBuy is the handler without a network: what an order costs here.
func BenchmarkBuy(b *testing.B) { benchHandler(b, benchBody, 202) }

// BenchmarkBuySoldOut is a refusal at the door.
func BenchmarkBuySoldOut(b *testing.B) {
	s, w := benchServer(b)
	w.steer(b, "tshirt", left(0))
	benchHandlerOf(b, s, benchBody, 409)
}

// BenchmarkBuyWithKey is an order with an Idempotency-Key that is new each time.
func BenchmarkBuyWithKey(b *testing.B) {
	benchHandler(b, benchBody, 202, "Idempotency-Key", "5b0f7a2e-8e6b-4b5a-9d0e-2f4c1c9f4f11")
}

// BenchmarkBuyOddBody takes the strict reader.
func BenchmarkBuyOddBody(b *testing.B) {
	benchHandler(b, `{"email":"buyer\u002d123456@example.com","product":"tshirt","quantity":1}`, 202)
}

// BenchmarkBuyTCP is the same over keep-alive connections of this machine.
func BenchmarkBuyTCP(b *testing.B) {
	w := newTown(b, "tshirt")
	_, addr := open(b, w, func(c *Config) { c.Queue = counter{w} })
	benchTCP(b, addr)
}

// BenchmarkBareTCP is the same with a handler that does nothing, and as many bytes.
func BenchmarkBareTCP(b *testing.B) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	answer := make([]byte, 350)
	s := &fasthttp.Server{Handler: func(ctx *fasthttp.RequestCtx) { ctx.SetStatusCode(202); ctx.SetBody(answer) }}
	done := make(chan error, 1)
	go func() { done <- s.Serve(ln) }()
	benchTCP(b, ln.Addr().String())
	if err := s.Shutdown(); err != nil {
		b.Fatal(err)
	}
	if err := <-done; err != nil {
		b.Fatal(err)
	}
}

func benchTCP(b *testing.B, addr string) {
	request := []byte("POST /buy HTTP/1.1\r\nHost: " + addr + "\r\nContent-Type: application/json\r\n" +
		fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(benchBody), benchBody))
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			b.Error(err)
			return
		}
		defer c.Close()
		r := bufio.NewReader(c)
		var res fasthttp.Response
		for pb.Next() {
			if _, err := c.Write(request); err != nil {
				b.Error(err)
				return
			}
			if err := res.Read(r); err != nil || res.StatusCode() != 202 {
				b.Errorf("%d %v", res.StatusCode(), err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "orders/s")
}

// BenchmarkDeliver is a status to a buyer with one socket, without its write, and to a
// buyer without a socket.
func BenchmarkDeliver(b *testing.B) {
	st := sale.Status{Order: sale.Order{ID: sale.KeyedID("a@b.de", "tshirt", "k"), Email: "a@b.de", Quantity: 1}, Product: "tshirt"}
	status, token := st.AppendJSON(nil), st.Email.Token()
	s, _ := benchServer(b)
	one := &socket{hub: s.hub, email: st.Email, token: token, wake: make(chan struct{}, 1)}
	s.hub.add(one)
	for name, token := range map[string]string{"one": token, "none": "nobody"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s.Deliver(token, status)
				one.frames, one.behind = one.frames[:0], 0
			}
		})
	}
}

// BenchmarkIdleSockets measures the memory of an open socket with its goroutines. The
// client is bare TCP and has none.
func BenchmarkIdleSockets(b *testing.B) {
	w := newTown(b, "tshirt")
	s, addr := open(b, w, nil)
	const n = 2000
	for b.Loop() {
		before := inUse()
		var conns []net.Conn
		for i := range n {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				b.Fatal(err)
			}
			conns = append(conns, c)
			fmt.Fprintf(c, "GET /ws?email=buyer-%d@example.com HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
				"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nOrigin: http://%s\r\n\r\n", i, addr, addr)
		}
		awaitTrue(b, "all are open", func() bool { return s.Sockets() == n })
		b.ReportMetric(float64(inUse()-before)/n, "B/socket")
		for _, c := range conns {
			c.Close()
		}
		awaitTrue(b, "all are closed", func() bool { return s.Sockets() == 0 })
	}
}

func inUse() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}
