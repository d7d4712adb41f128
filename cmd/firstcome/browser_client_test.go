package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
)

// frontEnd is a page of another origin with nothing in it but what runs before it.
func frontEnd(t *testing.T, browser context.Context, before string) *page {
	t.Helper()
	p := newTab(t, browser)
	if before != "" {
		p.do(first(before))
	}
	site := serveFront(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, `<!doctype html><link rel="icon" href="data:,"><title>a front end</title>`)
	}))
	p.do(chromedp.Navigate(site))
	p.script(`window.notReloaded = true`)
	return p
}

// async runs the body of an async function and decodes what it returns.
func (p *page) async(body string, into any) {
	p.t.Helper()
	p.do(chromedp.Evaluate[chromedp.Void](`(async () => {`+body+`})().then((v) => { window.result = v; }, (e) => { window.result = { fault: String(e.stack) }; })`, chromedp.EvalAwaitPromise))
	p.read(`window.result`, into)
}

// The module that any front end can use, on another origin: one key until the next wish,
// events, the shop's clock, problems with their fields.
func TestClientModule(t *testing.T) {
	text, err := os.ReadFile("../../internal/web/page/client.js")
	if err != nil {
		t.Fatal(err)
	}
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	_, _ = w.Write(text)
	if err := w.Close(); err != nil || zipped.Len() >= 4<<10 {
		t.Errorf("client.js is %d bytes gzipped, want less than 4 KiB (%v)", zipped.Len(), err)
	}

	browser := browse(t)
	demo := launch(t, "demo", "--listen", "127.0.0.1:0", "--nats-listen", "127.0.0.1:0", "--processing-time", "300ms", "--store-dir", t.TempDir())
	url := demo.await(`the shop +(http://\S+)\n`)[1] // lets other origins of this machine in
	demo.await(`Ctrl-C ends it`)
	p := frontEnd(t, browser, "")
	p.down(true) // a refusal is an error to the console
	var got struct {
		Fault                      string
		Same, Other, Refused, Late bool
		States, Statuses, Products []string
		Lines                      int
		Problem                    struct {
			Type      string
			Status    int
			Available int
			Passing   bool
		}
		Watched int
	}
	p.async(fmt.Sprintf(`
		const { firstcome } = await import(%q + '/client.js');
		const watcher = firstcome({ url: %[1]q, product: 'tshirt' });
		let watched = 0;
		watcher.on('product', () => watched++);
		const shop = firstcome({ url: %[1]q, email: 'ann@example.com' });
		const seen = { states: [], statuses: [], products: [], lines: 0 };
		shop.on('state', (s) => seen.states.push(s));
		shop.on('product', (p) => seen.products.push(p.id + ' ' + p.state));
		shop.on('line', () => seen.lines++);
		let decided; const outcome = new Promise((done) => { decided = done; });
		shop.on('order', (o) => { seen.statuses.push(o.status); if (o.status !== 'pending') decided(); });
		const one = await shop.buy({ product: 'tshirt' });
		const again = await shop.buy({ product: 'tshirt', quantity: 1 });
		await outcome;
		const late = Math.abs(shop.now() - Date.now()) > 100;
		shop.wish();
		const other = await shop.buy({ product: 'tshirt', quantity: 1 });
		shop.wish();
		const problem = await shop.buy({ product: 'tshirt', quantity: 400 }).catch(({ type, status, available, passing }) => ({ type, status, available, passing }));
		shop.close(); watcher.close();
		return { ...seen, same: one.id === again.id, other: other.id !== one.id, late, watched, problem };`, strings.TrimSuffix(url, "/")), &got)
	if got.Fault != "" || !got.Same || !got.Other || got.Late || got.Lines == 0 || got.Watched == 0 || len(got.Products) == 0 || got.Products[0] != "tshirt open" ||
		!slices.Equal(got.States, []string{"connecting", "live"}) || len(got.Statuses) < 2 || got.Statuses[0] != "pending" || got.Statuses[1] != "accepted" {
		t.Errorf("the module came to %+v", got)
	}
	if p := got.Problem; p.Type != "urn:firstcome:not-enough" || p.Status != 409 || p.Available < 3 || p.Passing {
		t.Errorf("the problem is %+v", p)
	}
	p.clean()
	demo.stop()
}

// When the module dials again, and with what: the shop's close codes, fresh credentials,
// and 35 s of silence. Seconds pass fifty times as fast here.
func TestClientDialsAgain(t *testing.T) {
	browser := browse(t)
	s := open(t, t.TempDir(), "http: { listen: 127.0.0.1:0, allowed_origins: ['http://127.0.0.1:1'] }")
	p := visitPage(t, browser, "http://"+s.http, first(`
		const slow = window.setTimeout;
		window.setTimeout = (f, ms, ...rest) => slow(f, ms / 50, ...rest);
		window.sleep = (ms) => new Promise((r) => slow(r, ms));
		window.dialled = [];
		window.Real = window.WebSocket;`))
	p.do(chromedp.Navigate("http://" + s.http + "/products"))
	p.down(true)
	for _, c := range []struct {
		name, with, script string
		want               []string
	}{
		{"a close without a word", `{ email: 'ann@example.com' }`, `hello(); end(1006);`, []string{"?email=ann%40example.com", "?email=ann%40example.com"}},
		{"a restart", `{}`, `hello(); end(1001);`, []string{"", ""}},
		{"an error of the shop", `{}`, `hello(); end(1011);`, []string{"", ""}},
		{"too many sockets", `{}`, `hello(); end(4429);`, []string{""}},
		{"another buyer's token", `{ token: () => 'a' }`, `hello(); await sleep(20); end(4403);`, []string{` {"token":"a"}`}},
		{"a token that ran out", `{ token: () => 'token' + window.dialled.length }`, `hello(); await sleep(20); end(4401); await sleep(100); hello(); await sleep(20)`, []string{` {"token":"token1"}`, ` {"token":"token2"}`}},
		{"a token that cannot be renewed", `{ token: 'fixed' }`, `hello(); await sleep(20); end(4401);`, []string{` {"token":"fixed"}`}},
		{"receipts", `{ receipts: ['r1', 'r2'] }`, `hello(); await sleep(20)`, []string{` {"receipts":["r1","r2"]}`}},
		{"two products", `{ product: ['a', 'b'] }`, `hello();`, []string{"?product=a&product=b"}},
		{"silence", `{}`, `hello(); await sleep(500); if (state !== 'live') return 'lost too early'; read({ type: 'beat' }); await sleep(500); if (state !== 'live') return 'the beat was not heard'; await sleep(300);`, []string{"", ""}},
		{"no hello", `{}`, `await sleep(300);`, []string{"", ""}},
	} {
		var got struct {
			Fault   string
			Dialled []string
			Why     string
		}
		p.async(`window.dialled = []; let state = '';
			window.WebSocket = class {
				constructor(to) { window.socket = this; window.dialled.push(new URL(to).search); }
				send(text) { window.dialled[window.dialled.length - 1] += ' ' + text; }
				close() {}
			};
			const read = (frame) => window.socket.onmessage({ data: JSON.stringify(frame) });
			const hello = () => read({ type: 'hello', server_time: new Date().toISOString() });
			const end = (code) => window.socket.onclose({ code });
			const { firstcome } = await import('/client.js');
			const shop = firstcome({ ...`+c.with+`, url: location.origin });
			shop.on('state', (s) => { state = s; });
			await sleep(20);
			const why = await (async () => { `+c.script+` })();
			await sleep(200);
			shop.close();
			return { dialled: window.dialled, why };`, &got)
		// A shop that does not answer is dialled on and on: how often is not the point.
		if len(got.Dialled) > 2 && len(c.want) == 2 {
			got.Dialled = got.Dialled[:2]
		}
		if got.Fault != "" || got.Why != "" || !slices.Equal(got.Dialled, c.want) {
			t.Errorf("%s: dialled %q, want %q %s %s", c.name, got.Dialled, c.want, got.Why, got.Fault)
		}
	}
	s.stop()
}

// tunnel forwards connections until it swallows: then those that are open stay open, and
// nothing gets through them.
type tunnel struct {
	net.Listener
	swallow atomic.Int64 // connections up to this number are dead
	dug     atomic.Int64 // connections so far
}

func dig(t *testing.T, to string) *tunnel {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tn := &tunnel{Listener: l}
	var all sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	pipe := func(n int64, from, to net.Conn) {
		defer from.Close()
		defer to.Close()
		b := make([]byte, 32<<10)
		for {
			k, err := from.Read(b)
			if err != nil {
				return
			}
			if n <= tn.swallow.Load() {
				continue
			}
			if _, err := to.Write(b[:k]); err != nil {
				return
			}
		}
	}
	all.Go(func() {
		for n := int64(1); ; n++ {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				continue
			}
			mu.Lock()
			open = append(open, in, out)
			mu.Unlock()
			tn.dug.Store(n)
			all.Go(func() { pipe(n, in, out) })
			all.Go(func() { pipe(n, out, in) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range open {
			c.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	return tn
}

// A socket that died without a close is noticed after 35 s of silence, as beats come every
// 25 s, and replaced within 40 s; the page then shows what it missed.
func TestPageNoticesADeadSocket(t *testing.T) {
	t.Parallel()
	browser := browse(t)
	s := open(t, t.TempDir())
	tn := dig(t, s.http)
	p := visitPage(t, browser, "http://"+tn.Addr().String())
	p.down(true) // what goes over a dead connection is an error
	p.enter("ann@example.com")
	p.script(`window.lamps = []; new MutationObserver(() => window.lamps.push(document.querySelector('.connection').dataset.state)).observe(document.querySelector('.connection'), { attributes: true })`)
	tn.swallow.Store(tn.dug.Load()) // new ones work
	dead := time.Now()
	s.buy("ann@example.com", 1)
	for !p.is(`window.lamps.at(-1) === 'live' && document.querySelectorAll('#orders [data-status=accepted]').length === 1`) {
		if time.Since(dead) > 60*time.Second {
			t.Fatal("the order made elsewhere was never shown")
		}
		time.Sleep(50 * time.Millisecond)
	}
	took := time.Since(dead)
	if t.Logf("noticed and mended after %v", took); took > 40*time.Second {
		t.Errorf("a dead socket was mended after %v", took)
	}
	var lamps []string
	p.read(`window.lamps`, &lamps)
	if !slices.Contains(lamps, "lost") {
		t.Errorf("the lamp said %q", lamps)
	}
	p.press()
	p.shows(2, 0)
	s.stop()
}

// What is small, and annoys: the wheel, a foreign @, an umlaut, a number to copy, and the
// way on after the approval.
func TestPageSmallThings(t *testing.T) {
	browser := browse(t)
	s := open(t, t.TempDir(), `products: [ { id: mug, stock: 5, title: "A mug", price: "€ 12", description: "Holds tea.", next_url: "https://pay.example/cart?from=drop" } ]`)
	p := visitPage(t, browser, "http://"+s.http)
	for id, want := range map[string]string{"product-name": "A mug", "price": "€ 12", "about": "Holds tea."} {
		p.says(id, want)
	}
	for typed, want := range map[string]string{
		"ann@bücher.example": "ann@xn--bcher-kva.example", "ann＠example.com": "ann@example.com", "Ann@Example.COM": "ann@example.com", " bob@example.com ": "bob@example.com",
	} {
		p.script(`document.getElementById('email').select()`)
		p.do(send(input.InsertText, input.InsertTextParams{Text: typed}))
		p.script(`document.getElementById('email').blur()`)
		p.says("orders-empty", want)
	}
	for typed, why := range map[string]string{"ann": "has an @", "jörg@example.com": "plain letters", "ann@example": "does not look like"} {
		p.script(`document.getElementById('email').select()`)
		p.do(send(input.InsertText, input.InsertTextParams{Text: typed}))
		p.script(`document.getElementById('email').blur()`)
		p.says("email-error", why)
	}
	p.enter("carl@example.com")
	p.do(chromedp.Focus(chromedp.CSS("#quantity")))
	var at struct{ X, Y float64 }
	p.read(`(() => { const r = document.getElementById('quantity').getBoundingClientRect(); return { X: r.x + 9, Y: r.y + 9 }; })()`, &at)
	for range 3 {
		p.do(chromedp.MouseEvent(input.DispatchMouseEventTypeMouseWheel, at.X, at.Y, func(m *input.DispatchMouseEventParams) { m.DeltaX, m.DeltaY = 1, -120 }))
	}
	time.Sleep(300 * time.Millisecond)
	if !p.is(`document.getElementById('quantity').value === '1'`) {
		t.Error("the wheel changed the quantity")
	}
	p.press()
	p.shows(1, 0)
	id := p.orders()[0].ID
	p.until("the way on is there", fmt.Sprintf(`(() => { const a = document.getElementById('next'), to = new URL(a.href);
		return a.offsetParent && to.origin === 'https://pay.example' && to.searchParams.get('from') === 'drop' && to.searchParams.get('order') === %q && a.referrerPolicy === 'no-referrer'; })()`, id))
	p.script(`navigator.clipboard.writeText = async (text) => { window.copied = text; }`)
	for _, button := range []string{"#number-copy", ".ticket .copy"} {
		p.script(`window.copied = ''`)
		p.do(chromedp.Click(chromedp.CSS(button)))
		p.until("the order's number is copied", fmt.Sprintf(`window.copied === %q`, id))
	}
	p.clean()
	s.stop()
}
