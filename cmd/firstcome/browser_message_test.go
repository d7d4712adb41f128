package main

import (
	"slices"
	"testing"
)

// What the page said of one order, or of a door that was shut, goes as soon as it
// is no longer so; every trouble is said once, and the orders stay in their list.
func TestPageTakesBackOldMessages(t *testing.T) {
	browser := browse(t)
	s := open(t, t.TempDir())
	// deaf: the page misses how the product stands, until it hears.
	p := visitPage(t, browser, "http://"+s.http, first(`
		const missed = [];
		window.hear = () => { window.deaf = false; missed.splice(0).forEach((late) => late()); };
		window.WebSocket = class extends WebSocket {
			set onmessage(f) {
				super.onmessage = (e) => {
					if (window.deaf && e.data.startsWith('{"type":"product"')) missed.push(() => f(e));
					else f(e);
				};
			}
		};`))
	p.down(true) // a refusal is an error to the console, too
	p.enter("ann@example.com")
	// cut: its orders do not arrive. refuse: they are turned away for a reason that is
	// not the product's state.
	p.script(`(() => {
		const real = window.fetch;
		window.fetch = (path, rest) => {
			const buying = new URL(path).pathname === '/buy';
			if (buying && window.cut) return Promise.reject(new TypeError('cut'));
			if (buying && window.refuse) return Promise.resolve(new Response('{"message":"Not you."}', { status: 403 }));
			return real(path, rest);
		};
		const alert = document.querySelector('[data-testid=error][role=alert]');
		window.alerts = [];
		new MutationObserver(() => alert.textContent && window.alerts.push(alert.textContent)).observe(alert, { childList: true, characterData: true, subtree: true });
	})()`)
	const (
		approved = `document.querySelector('[data-testid=status][role=status]').textContent.includes('has been approved')`
		trouble  = `document.querySelector('[data-testid=error]').textContent !== ''`
		silence  = `!document.querySelector('[data-testid=status]').hasChildNodes()`
	)
	// alone waits for a trouble, beside which nothing good of an earlier order stands.
	alone := func(what string) {
		t.Helper()
		p.until("the page says: "+what, trouble)
		p.shot(what)
		if !p.is(silence) {
			t.Errorf("%s: the outcome of an earlier order stands beside it", what)
		}
	}

	p.press()
	p.until("the first is approved", approved)
	p.script(`window.cut = true`)
	p.press()
	alone("retrying")
	p.script(`window.cut = false`)
	p.shows(2, 0)
	p.until("the second is approved", approved)
	if p.is(trouble) {
		t.Error("an approved order stands beside the trouble that it had")
	}

	for _, door := range []struct{ name, shut, shown, open string }{
		{"paused", "--paused=true", "paused", "--paused=false"},
		{"sold-out", "0", "sold_out", "5"},
	} {
		p.script(`window.deaf = true`)
		s.stock("set", "tshirt", door.shut).want(t, 0)
		p.press()
		alone(door.name)
		p.script(`window.hear()`)
		p.until("the product is "+door.shown, `document.getElementById('poster').dataset.state === '`+door.shown+`'`)
		if !p.is(trouble) {
			t.Errorf("%s: the page took back what is still so", door.name)
		}
		s.stock("set", "tshirt", door.open).want(t, 0)
		p.until("one can buy again", canBuy)
		p.shot(door.name + "-over")
		if p.is(trouble) {
			t.Errorf("%s: one can buy, and the page says that one cannot", door.name)
		}
	}

	p.script(`window.refuse = true`)
	p.press()
	alone("refused")
	s.stock("set", "tshirt", "0").want(t, 0)
	p.until("none is left", `document.querySelector('[data-testid=available]').textContent === '0'`)
	if !p.is(trouble) {
		t.Error("a refusal went that has nothing to do with the product's state")
	}

	p.shows(2, 0)
	var said []string
	p.read(`window.alerts`, &said)
	if want := []string{"The shop cannot be reached right now.", "The sale of the product is paused.", "The product is sold out.", "Not you."}; !slices.Equal(said, want) {
		t.Errorf("heard %q, want %q", said, want)
	}
	p.clean()
	s.stop()
}
