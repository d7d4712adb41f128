package main

import (
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// orderCount is how many orders of a buyer the shop has.
func (s *shop) orderCount(email string) int {
	s.t.Helper()
	var list struct{ Orders []status }
	s.get("/orders?email="+url.QueryEscape(email)).decode(s.t, &list)
	return len(list.Orders)
}

// P10: whatever one gesture does to the button is one order. A second order needs the
// button that says so, and then the button that buys.
func TestPageOneWishIsOneOrder(t *testing.T) {
	browser := browse(t)
	hold := func(p *page, selector string) { // a key that is held comes every 30 ms after the first half second
		p.do(chromedp.Focus(chromedp.CSS(selector)), key("Enter", 13, false))
		time.Sleep(250 * time.Millisecond)
		for range 12 {
			p.do(key("Enter", 13, true))
			time.Sleep(30 * time.Millisecond)
		}
		p.do(keyUp("Enter", 13))
	}
	twice := func(gap time.Duration) func(*page) {
		return func(p *page) {
			p.click("#buy", 1)
			time.Sleep(gap)
			p.click("#buy", 2)
		}
	}
	slow := func(do func(*page)) func(*page) {
		return func(p *page) {
			p.script(`const real = window.fetch; window.fetch = async (...all) => { await new Promise((r) => setTimeout(r, 700)); return real(...all); }`)
			do(p)
		}
	}
	again := func(gap time.Duration) func(*page) { // a reload between two presses
		return func(p *page) {
			var at string
			p.read(`location.href`, &at)
			p.click("#buy", 1)
			time.Sleep(gap)
			p.visit(at)
			p.script(`document.getElementById('buy').click()`)
		}
	}
	type gesture struct {
		name string
		do   func(*page)
	}
	gestures := []gesture{{"Enter held on the button", func(p *page) { hold(p, "#buy") }}, {"Enter held in the field", func(p *page) { hold(p, "#email") }},
		{"five clicks", func(p *page) {
			for range 5 {
				p.click("#buy", 1)
				time.Sleep(400 * time.Millisecond)
			}
		}},
		{"slow network", slow(twice(300 * time.Millisecond))}, {"slow network, Enter held", slow(func(p *page) { hold(p, "#buy") })},
		{"a reload at once", again(20 * time.Millisecond)}, {"a reload", again(300 * time.Millisecond)},
	}
	for _, ms := range []int{60, 120, 200, 300, 450, 600} {
		gestures = append(gestures, gesture{fmt.Sprintf("two clicks, %d ms", ms), twice(time.Duration(ms) * time.Millisecond)})
	}
	for _, processing := range []string{"0s", "2s"} {
		s := open(t, t.TempDir(), "products: [ { id: tshirt, stock: 1000 } ]", "worker: { processing_time: "+processing+" }")
		for i, g := range gestures {
			email := fmt.Sprintf("b%d@example.com", i)
			p := visitPage(t, browser, "http://"+s.http)
			p.enter(email)
			g.do(p)
			p.until("the order is on the page", `document.querySelectorAll('#orders .ticket').length > 0`)
			time.Sleep(300 * time.Millisecond) // in which a second one could come
			if n := s.orderCount(email); n != 1 {
				t.Errorf("%s of processing, %s: %d orders", processing, g.name, n)
			}
			p.script(`window.notReloaded = true`)
			p.clean()
			p.do(chromedp.Navigate("about:blank"))
		}
		s.stop()
	}
}

// After the outcome another order takes two decisions: to buy another, and to buy.
func TestPageAsksBeforeAnotherOrder(t *testing.T) {
	browser := browse(t)
	s := open(t, t.TempDir(), "products: [ { id: tshirt, stock: 9, limit_per_buyer: 2 } ]")
	p := visitPage(t, browser, "http://"+s.http)
	p.enter("ann@example.com")
	p.says("quantity-hint", "Limit 2 for each buyer.")
	p.press()
	p.shows(1, 0)
	p.says("status", "Approved")
	p.says("buy-text", "Buy another")
	time.Sleep(gesture)
	p.click("#buy", 1)
	p.says("buy-text", "Buy now")
	p.says("headline", "One is yours")
	p.says("quantity-hint", "you have 1")
	if n := s.orderCount("ann@example.com"); n != 1 {
		t.Errorf("%d orders after %q", n, "Buy another")
	}
	time.Sleep(gesture)
	p.click("#buy", 1)
	p.shows(2, 0)
	p.says("buy-text", "Limit reached")
	if p.is(canBuy) {
		t.Error("the button is awake at the limit")
	}
	time.Sleep(2 * gesture) // a reload within two seconds would still show the outcome
	p.visit("http://" + s.http)
	p.says("headline", "You have your 2")
	p.until("nothing can be entered that cannot be bought", `document.getElementById('quantity').offsetParent === null`)
	p.clean()
	s.stop()
}

// A reload in the middle of an order goes on under its key; a tab that is reopened
// later asks first, and then sends the same order.
func TestPageAsksBeforeItSendsAnOldOrder(t *testing.T) {
	browser := browse(t)
	s := open(t, t.TempDir())
	at := "http://" + s.http
	p := visitPage(t, browser, at)
	p.down(true)
	p.enter("ann@example.com")
	p.script(`window.fetch = () => Promise.reject(new TypeError('cut'))`)
	p.press()
	p.says("retry-text", "Nothing is bought twice")
	var kept map[string]string
	p.read(`({ ...sessionStorage })`, &kept)
	p.visit(at) // a reload
	p.shows(1, 0)

	p = newTab(t, browser)
	p.do(chromedp.Navigate(at + "/page/icon.svg"))
	var wish map[string]any
	p.script(fmt.Sprintf(`for (const [k, v] of Object.entries(%s)) sessionStorage.setItem(k, v);
		const wish = JSON.parse(sessionStorage.getItem('firstcome.wish'));
		wish.touched -= 60_000; wish.email = 'bob@example.com';
		sessionStorage.setItem('firstcome.wish', JSON.stringify(wish));
		sessionStorage.setItem('firstcome.email', '"bob@example.com"');
		sessionStorage.setItem('firstcome.key', 'the-key-of-bobs-only-wish')`, quoted(t, kept)))
	p.read(`JSON.parse(sessionStorage.getItem('firstcome.wish'))`, &wish)
	p.visit(at)
	p.says("headline", "Did your order get in?")
	p.says("buy-text", "Send it again")
	p.shot("reopened")
	time.Sleep(time.Second)
	if n := s.orderCount("bob@example.com"); n != 0 {
		t.Errorf("%d orders were sent by a tab that was reopened (%v)", n, wish)
	}
	if res := s.buy("bob@example.com", 1, "Idempotency-Key", "the-key-of-bobs-only-wish"); res.code != http.StatusAccepted {
		t.Fatalf("buying answers %d", res.code) // it had got in, after all
	}
	p.press()
	p.shows(1, 0)
	if n := s.orderCount("bob@example.com"); n != 1 {
		t.Errorf("%d orders after sending the old one again", n)
	}
	s.stop()
}

// The tab remembers its buyer, the device only if asked to, and "Not you?" forgets.
func TestPageOnASharedComputer(t *testing.T) {
	browser := browse(t)
	s := open(t, t.TempDir())
	at := "http://" + s.http
	p := visitPage(t, browser, at)
	p.enter("ann@example.com")
	p.press()
	p.shows(1, 0)
	p.visit(at)
	p.shows(1, 0)
	if next := visitPage(t, browser, at); !next.is(`document.getElementById('email').value === '' && !document.querySelector('.ticket')`) {
		t.Error("a new tab knows the buyer of another")
	}
	const form = `document.getElementById('remember').offsetParent !== null`
	p.until("the page is at rest", form+` || document.getElementById('buy-text').textContent === 'Buy another'`)
	if !p.is(form) { // the outcome came as news
		time.Sleep(gesture)
		p.do(chromedp.Click(chromedp.CSS(`#buy`)))
	}
	p.until("the form is there again", form)
	p.click("#remember", 1)
	next := visitPage(t, browser, at)
	next.shows(1, 0)
	next.click("#forget", 1)
	next.says("orders-empty", "Enter your email")
	for _, tab := range []*page{next, visitPage(t, browser, at)} {
		if !tab.is(`document.getElementById('email').value === '' && !document.querySelector('.ticket') && !localStorage.getItem('firstcome.email')`) {
			t.Error("a buyer is remembered who said to be somebody else")
		}
	}
	s.stop()
}

// Everything is relative: the page works below a path of another site.
func TestPageBelowAPath(t *testing.T) {
	browser := browse(t)
	s := open(t, t.TempDir(), "http: { listen: 127.0.0.1:0, trusted_proxies: [127.0.0.1] }", "products: [ { id: tshirt, stock: 5 }, { id: cap, stock: 3 } ]")
	to, err := url.Parse("http://" + s.http)
	if err != nil {
		t.Fatal(err)
	}
	site := serveFront(t, http.StripPrefix("/drop", &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.Host = r.In.Host
		r.Out.Header.Set("X-Forwarded-Prefix", "/drop")
	}}))
	p := visitPage(t, browser, site+"/drop/?utm=1&product=cap")
	p.until("the product of the link is on show", `document.getElementById('product').value === 'cap' && document.getElementById('poster').dataset.product === 'cap'`)
	p.enter("ann@example.com")
	p.press()
	p.shows(1, 0)
	p.keys(`#product`, kb.ArrowUp) // to the one before it
	p.until("the URL has the product", `location.href.endsWith('/drop/?utm=1&product=tshirt')`)
	p.press() // the outcome of the cap does not stand in the way
	p.shows(2, 0)
	p.clean()
	s.stop()
}
