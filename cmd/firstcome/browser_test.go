package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	cdplog "github.com/chromedp/cdproto/log"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// chromium is where the browser is; without one the test is skipped, but for CI.
func chromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"/usr/bin/chromium", "chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("there is no Chromium")
	}
	t.Skip("there is no Chromium")
	return ""
}

// browse starts a browser with an empty profile; every page is a tab of it.
func browse(t *testing.T) context.Context {
	t.Helper()
	flags := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(chromium(t)), chromedp.UserDataDir(t.TempDir()), chromedp.WSURLReadTimeout(patience),
	}
	for _, name := range []string{"headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run",
		"disable-background-networking", "disable-component-update", "disable-sync", "disable-dev-shm-usage"} {
		flags = append(flags, chromedp.Flag(name, true))
	}
	allocator, free := chromedp.NewExecAllocator(context.Background(), flags...)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(func() {
		closing, late := context.WithTimeout(ctx, patience)
		defer late()
		if err := chromedp.Cancel(closing); err != nil {
			t.Errorf("closing the browser: %v", err)
		}
		cancel()
		free()
	})
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("starting the browser: %v", err)
	}
	return ctx
}

// page is a tab with the shop in it.
type page struct {
	t   *testing.T
	ctx context.Context

	mu       sync.Mutex
	complain []string // errors in the console, violations of the CSP among them
	offline  bool     // the shop is down: the network's own errors are no fault
}

const (
	ready  = `document.getElementById('shop')?.dataset.phase === 'ready'`
	canBuy = `!document.getElementById('buy').disabled && document.getElementById('buy').getAttribute('aria-disabled') === 'false'`
)

func visitPage(t *testing.T, browser context.Context, url string, before ...chromedp.Action[chromedp.Void]) *page {
	t.Helper()
	p := newTab(t, browser)
	p.do(chromedp.EmulateViewport(1100, 860))
	p.do(before...)
	p.visit(url)
	return p
}

// newTab is a tab of its own with nothing in it. Tabs share what the device remembers.
func newTab(t *testing.T, browser context.Context) *page {
	t.Helper()
	p := &page{t: t}
	ctx, cancel := chromedp.NewContext(browser, chromedp.WithListener(p.listen))
	t.Cleanup(cancel)
	p.ctx = ctx
	// The context that a tab first runs in owns it, so it has no deadline.
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("opening a tab: %v", err)
	}
	p.do(send(emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true}))
	return p
}

// visit loads the shop, also once more.
func (p *page) visit(url string) {
	p.t.Helper()
	p.do(chromedp.Navigate(url))
	p.script(`window.notReloaded = true`)
	p.until("the shop is drawn", ready)
}

// send is a command of the DevTools protocol as a step.
func send[P, R any](command cdp.Command[P, R], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, command, params)
		return err
	})
}

// first runs a script in each document before its own.
func first(js string) chromedp.Action[chromedp.Void] {
	return send(cdppage.AddScriptToEvaluateOnNewDocument, cdppage.AddScriptToEvaluateOnNewDocumentParams{Source: js})
}

// phoneScreen is what a small phone's browser leaves to a page.
var phoneScreen = chromedp.EmulateViewport(390, 664, chromedp.EmulateMobile, chromedp.EmulateTouch)

// media emulates a media feature, as prefers-color-scheme.
func media(feature, value string) chromedp.Action[chromedp.Void] {
	return send(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: feature, Value: value}}})
}

// click presses and releases the mouse in the middle of an element, wherever that is now.
func (p *page) click(selector string, count int) {
	p.t.Helper()
	var at struct{ X, Y float64 }
	p.read(fmt.Sprintf(`(() => { const r = document.querySelector(%q).getBoundingClientRect(); return { X: r.x + r.width / 2, Y: r.y + r.height / 2 }; })()`, selector), &at)
	p.do(chromedp.MouseClickXY(at.X, at.Y, chromedp.ClickCount(count)))
}

// key presses a key with no text of its own but Enter's, or repeats it, without its release.
func key(name string, code int64, repeat bool) chromedp.Action[chromedp.Void] {
	text := ""
	if name == "Enter" {
		text = "\r"
	}
	return send(input.DispatchKeyEvent, input.DispatchKeyEventParams{Type: input.DispatchKeyEventTypeKeyDown,
		Key: name, Code: name, Text: text, WindowsVirtualKeyCode: code, AutoRepeat: &repeat})
}

func keyUp(name string, code int64) chromedp.Action[chromedp.Void] {
	return send(input.DispatchKeyEvent, input.DispatchKeyEventParams{Type: input.DispatchKeyEventTypeKeyUp, Key: name, Code: name, WindowsVirtualKeyCode: code})
}

// text is what an element says.
func (p *page) text(id string) (text string) {
	p.t.Helper()
	p.read(fmt.Sprintf(`document.getElementById(%q).textContent`, id), &text)
	return text
}

// says waits until an element has a text in it.
func (p *page) says(id, text string) {
	p.t.Helper()
	p.until(fmt.Sprintf("#%s says %q", id, text), fmt.Sprintf(`document.getElementById(%q).textContent.includes(%q)`, id, text))
}

func (p *page) listen(event any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e := event.(type) {
	case *cdplog.EventEntryAdded:
		if e.Entry.Level == cdplog.EntryLevelError && !(p.offline && e.Entry.Source == cdplog.EntrySourceNetwork) {
			p.complain = append(p.complain, fmt.Sprintf("%s: %s %s", e.Entry.Source, e.Entry.Text, e.Entry.URL))
		}
	case *runtime.EventExceptionThrown:
		p.complain = append(p.complain, fmt.Sprintf("%s %+v", e.ExceptionDetails.Text, e.ExceptionDetails.Exception))
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError {
			p.complain = append(p.complain, fmt.Sprintf("console.error: %s", e.Args[0].Value))
		}
	}
}

// down says whether the shop is down on purpose from now on.
func (p *page) down(is bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.offline = is
}

// clean fails if the console had a complaint or the page was reloaded.
func (p *page) clean() {
	p.t.Helper()
	if !p.is(`window.notReloaded === true`) {
		p.t.Error("the page was reloaded")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, text := range p.complain {
		p.t.Errorf("the console says: %s", text)
	}
}

func (p *page) do(steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		p.t.Fatal(err)
	}
}

// keys types into what the selector finds. chromedp's own SendKeys reads the document
// while its events change it, which the race detector minds.
func (p *page) keys(selector, text string) {
	p.t.Helper()
	p.script(fmt.Sprintf(`document.querySelector(%q).focus()`, selector))
	p.do(chromedp.KeyEvent(text))
}

func (p *page) script(js string) { p.t.Helper(); p.do(chromedp.Evaluate[chromedp.Void](js)) }

func (p *page) is(js string) bool {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	yes, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("!!("+js+")"))
	if err != nil {
		p.t.Fatalf("%s: %v", js, err)
	}
	return yes
}

func (p *page) until(what, js string) {
	p.t.Helper()
	deadline := time.Now().Add(patience)
	for !p.is(js) {
		if time.Now().After(deadline) {
			p.shot("failed")
			p.t.Fatalf("it never came about that %s; orders %v, the button says %q", what, p.orders(), p.text("buy-text"))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// read decodes what an expression is in the page.
func (p *page) read(js string, into any) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string]("JSON.stringify("+js+")"))
	if err != nil {
		p.t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(text), into); err != nil {
		p.t.Fatal(err)
	}
}

// connected waits for a state of the connection.
func (p *page) connected(state string) {
	p.t.Helper()
	p.until("the connection is "+state, fmt.Sprintf(`document.querySelector('[data-testid=connection]').dataset.state === %q`, state))
}

// ticket is an order as the page shows it.
type ticket struct{ ID, Status string }

// orders are those on the page, newest first.
func (p *page) orders() (all []ticket) {
	p.t.Helper()
	p.read(`[...document.querySelectorAll('#orders .ticket[data-status][data-order]')].map((o) => ({ID: o.dataset.order, Status: o.dataset.status}))`, &all)
	return all
}

// shows waits until the page shows exactly so many orders of each status.
func (p *page) shows(accepted, soldOut int) {
	p.t.Helper()
	count := func(status string, n int) string {
		return fmt.Sprintf(`document.querySelectorAll('[data-testid=orders] [data-status=%s]').length === %d`, status, n)
	}
	p.until(fmt.Sprintf("%d orders are accepted and %d sold out", accepted, soldOut),
		count("accepted", accepted)+" && "+count("sold_out", soldOut)+" && "+count("pending", 0))
}

// enter types the address of a buyer who has no orders over what stands in the
// field, and leaves it.
func (p *page) enter(email string) {
	p.t.Helper()
	p.script(`document.querySelector('[data-testid=email]').select()`)
	p.keys(`[data-testid=email]`, email+"\t")
	p.until("the page follows "+email, fmt.Sprintf(`document.getElementById('orders-empty').textContent.includes(%q)`, email))
	p.connected("live")
}

// press clicks the button as soon as one can buy.
func (p *page) press() {
	p.t.Helper()
	p.until("one can buy", canBuy)
	if p.text("buy-text") == "Buy another" {
		time.Sleep(gesture) // what comes sooner was meant for the button before
		p.do(chromedp.Click(chromedp.CSS(`#buy`)))
		p.says("buy-text", "now")
		time.Sleep(gesture)
	}
	p.do(chromedp.Click(chromedp.CSS(`#buy`)))
}

// gesture is longer than presses that the page takes for one.
const gesture = 900 * time.Millisecond

// buys presses the button and waits for the outcome, n times.
func (p *page) buys(n int) {
	p.t.Helper()
	for range n {
		before := len(p.orders())
		p.press()
		p.until("the order is decided", fmt.Sprintf(`document.querySelectorAll('#orders .ticket:not([data-status=pending])').length === %d`, before+1))
	}
}

// phone narrows the page to a small phone, on which nothing may stick out.
func (p *page) phone() {
	p.t.Helper()
	p.do(chromedp.EmulateViewport(360, 780, chromedp.EmulateMobile, chromedp.EmulateTouch))
	p.until("the page fits without scrolling sideways", // what sticks out widens the window of a phone
		`window.innerWidth === 360 && document.documentElement.scrollWidth <= 360`)
}

// shot saves what the page looks like to $FIRSTCOME_SHOTS, if that is set.
func (p *page) shot(name string) {
	p.t.Helper()
	dir := os.Getenv("FIRSTCOME_SHOTS")
	if dir == "" {
		return
	}
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err != nil {
		p.t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644); err != nil {
		p.t.Fatal(err)
	}
}

// The demo as a human sees it: five are sold, the sixth is told, live; two tabs of
// one buyer both follow; a reload keeps what was decided.
func TestPageSellsFiveAndTellsTheSixth(t *testing.T) {
	browser := browse(t)
	demo := launch(t, "demo", "--listen", "127.0.0.1:0", "--nats-listen", "127.0.0.1:0",
		"--processing-time", "700ms", "--store-dir", t.TempDir())
	url := demo.await(`the shop +(http://\S+)\n`)[1]
	demo.await(`Ctrl-C ends it`)

	one := visitPage(t, browser, url)
	one.enter("ann@example.com")
	two := visitPage(t, browser, url)
	two.enter("ann@example.com")
	sixth := visitPage(t, browser, url)
	sixth.enter("bob@example.com")
	one.buys(4)
	one.press()
	sixth.press() // before the fifth is decided
	sixth.says("buy-text", "You are in line")
	sixth.shot("waiting")

	sixth.shows(0, 1)
	one.shows(5, 0)
	two.shows(5, 0)
	if !slices.Equal(one.orders(), two.orders()) {
		t.Errorf("one tab shows %v, the other %v", one.orders(), two.orders())
	}
	for _, p := range []*page{one, two, sixth} {
		p.until("nothing is left", `document.querySelector('[data-testid=available]').textContent === '0'
			&& document.querySelector('[data-testid=gauge]').getAttribute('aria-valuenow') === '0'
			&& !(`+canBuy+`) && document.getElementById('buy-text').textContent === 'Sold out'`)
		p.clean()
	}
	sixth.until("the outcome is said", `document.querySelector('[data-testid=status][role=status]').textContent.includes('Sorry, we are out of stock')`)
	one.shot("sold")
	sixth.shot("sold-out")

	decided := one.orders()
	one.do(chromedp.Reload())
	one.script(`window.notReloaded = true`)
	one.shows(5, 0)
	one.connected("live")
	if !slices.Equal(one.orders(), decided) {
		t.Errorf("before the reload %v, after it %v", decided, one.orders())
	}
	for name, p := range map[string]*page{"phone-sold": one, "phone-sold-out": sixth} {
		p.phone()
		p.shot(name)
		p.clean()
	}
	demo.stop()
}

// P6: the shop dies and comes back; the page connects by itself, catches up, and
// sends the order that was pressed meanwhile, once, as soon as the shop is back.
func TestPageOutlivesRestart(t *testing.T) {
	browser := browse(t)
	store := t.TempDir()
	slow := "worker: { processing_time: 300ms }"
	s := open(t, store, slow)
	p := visitPage(t, browser, "http://"+s.http)
	p.enter("ann@example.com")
	p.buys(2)

	p.down(true)
	s.kill()
	p.connected("lost")
	p.says("news", "Connection lost")
	p.press()
	p.until("the page tries again", `!document.querySelector('[data-testid=retry]').hidden`)
	p.shot("shop-away")
	if n := len(p.orders()); n != 2 {
		t.Errorf("%d orders on the page while the shop is away, want 2", n)
	}
	p.script(`window.liveAt = 0; window.sentAt = 0;
		new MutationObserver(() => {
			if (document.querySelector('.connection').dataset.state === 'live') window.liveAt ||= performance.now();
			if (document.querySelectorAll('#orders .ticket').length === 3) window.sentAt ||= performance.now();
		}).observe(document.body, { subtree: true, childList: true, attributes: true })`)

	s = open(t, store, slow, "http: { listen: "+s.http+" }") // where the page looks for it
	p.connected("live")
	p.shows(3, 0)
	if !p.is(`window.sentAt - window.liveAt < 1000`) {
		t.Error("the order was not sent at once when the socket was back")
	}
	p.down(false)
	p.until("two are left", `document.querySelector('[data-testid=available]').textContent === '2'`)
	p.clean()
	s.sold(3)
	s.auditGreen()
	s.stop()
}

// quoted is a value as a JavaScript literal.
func quoted(t *testing.T, value any) string {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// serveFront serves another site, and is its URL.
func serveFront(t *testing.T, h http.Handler) string {
	t.Helper()
	site := httptest.NewServer(h)
	t.Cleanup(func() {
		site.CloseClientConnections()
		site.Close()
	})
	return site.URL
}
