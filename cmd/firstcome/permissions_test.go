package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// refused are subjects that a user may not publish to, and may not listen to.
var refused = map[string]struct{ publish, subscribe []string }{
	"admin": {
		publish: []string{"$JS.API.STREAM.UPDATE.KV_stock", "$JS.API.STREAM.DELETE.KV_stock", "$JS.API.STREAM.PURGE.KV_stock", "$JS.API.STREAM.MSG.DELETE.KV_stock"},
	},
	"app": {
		publish: append([]string{
			"line.orders.tshirt", "ledger.tshirt", "$KV.other.tshirt", "$KV.stock.a.b", "$KV.hooks.a.b", "desk.a.b", "status.a", "_INBOX_firstcome.x.y",
			"$JS.ACK.KV_stock.a.1.1.1.1.0", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.LIST", "$JS.API.STREAM.INFO.OTHER",
			"$JS.API.DIRECT.GET.KV_stock.$KV.stock.tshirt", "$JS.API.DIRECT.GET.DEAD", "$JS.API.STREAM.MSG.GET.DEAD",
			"$JS.API.CONSUMER.CREATE.KV_stock.x", "$JS.API.CONSUMER.CREATE.KV_stock.x.$KV.stock.>", "$JS.API.CONSUMER.MSG.NEXT.KV_stock.x",
			"$JS.API.CONSUMER.MSG.NEXT.DEAD.x", "$JS.API.CONSUMER.CREATE.DEAD.x",
		}, changes...),
		subscribe: []string{">", "orders.*", "desk.*", "$KV.stock.>", "$KV.hooks.>", "dead.*", "_INBOX.>", "$JS.>"},
	},
	"inspector": {
		publish: append([]string{
			"orders.tshirt", "desk.tshirt", "$KV.stock.tshirt", "$KV.hooks.a", "ledger.tshirt", "dead.tshirt", "status.a.b", "line.orders.tshirt", "_INBOX_firstcome.x.y",
			"$JS.API.CONSUMER.MSG.NEXT.ORDERS.tshirt", "$JS.ACK.ORDERS.tshirt.1.1.1.1.0", "$JS.API.CONSUMER.UNPIN.ORDERS.tshirt",
		}, changes...),
		subscribe: []string{">", "_INBOX_firstcome.>", "$JS.>"},
	},
}

// allowed are subjects of which nothing else here shows that a user may have them.
var allowed = map[string]struct{ publish, subscribe []string }{
	"owner": {publish: []string{"$JS.API.STREAM.MSG.DELETE.KV_stock", "$JS.API.STREAM.UPDATE.KV_stock"}, subscribe: []string{">"}},
	"admin": {publish: []string{"$JS.API.STREAM.UPDATE.ORDERS", "$JS.API.STREAM.SNAPSHOT.KV_stock", "$JS.API.STREAM.CREATE.KV_stock"}, subscribe: []string{">"}},
	"app": {
		publish: []string{"$KV.hooks.shop", "$JS.API.STREAM.INFO.KV_hooks", "$JS.API.STREAM.MSG.GET.KV_hooks", "$JS.API.DIRECT.GET.KV_hooks.$KV.hooks.shop"},
	},
	"inspector": {subscribe: []string{"orders.*", "desk.*", "$KV.stock.>", "$KV.hooks.*", "dead.*"}},
}

// changes are what only an admin or an owner may do.
var changes = func() (all []string) {
	for _, stream := range []string{"ORDERS", "DEAD", "KV_stock", "KV_hooks"} {
		for _, call := range []string{"CREATE", "UPDATE", "DELETE", "PURGE", "MSG.DELETE", "LEADER.STEPDOWN", "PEER.REMOVE", "SNAPSHOT", "RESTORE"} {
			all = append(all, "$JS.API.STREAM."+call+"."+stream)
		}
	}
	for _, call := range []string{
		"CREATE.ORDERS", "CREATE.ORDERS.x", "CREATE.ORDERS.x.orders.tshirt", "DURABLE.CREATE.ORDERS.x", "DELETE.ORDERS.tshirt",
		"PAUSE.ORDERS.tshirt", "RESET.ORDERS.tshirt", "LEADER.STEPDOWN.ORDERS.tshirt",
	} {
		all = append(all, "$JS.API.CONSUMER."+call)
	}
	return all
}()

// permissions tries what each user must not do.
func (s *site) permissions(t *testing.T) {
	if nc, err := nats.Connect(s.urls); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("without a user: %v, want %v", err, nats.ErrAuthorization)
		nc.Close()
	}
	for user, denied := range refused {
		may := s.tries(user)
		for _, subject := range denied.publish {
			if may("publish to", subject) {
				t.Errorf("%s may publish to %s", user, subject)
			}
		}
		for _, subject := range denied.subscribe {
			if may("subscribe to", subject) {
				t.Errorf("%s may subscribe to %s", user, subject)
			}
		}
	}
	for user, granted := range allowed {
		may := s.tries(user)
		for _, subject := range granted.publish {
			if !may("publish to", subject) {
				t.Errorf("%s may not publish to %s", user, subject)
			}
		}
		for _, subject := range granted.subscribe {
			if !may("subscribe to", subject) {
				t.Errorf("%s may not subscribe to %s", user, subject)
			}
		}
	}
}

// tries asks what a user may do. The server complains before it answers the ping, and
// the complaint names the subject. An empty message changes nothing.
func (s *site) tries(user string) (may func(how, subject string) bool) {
	nc := s.connect(user, nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	return func(how, subject string) bool {
		s.t.Helper()
		var err error
		if how == "publish to" {
			err = nc.PublishRequest(subject, "nobody.listens", nil)
		} else {
			_, err = nc.SubscribeSync(subject)
		}
		if err := errors.Join(err, nc.FlushTimeout(patience)); err != nil {
			s.t.Fatal(err)
		}
		err = nc.LastError()
		return !errors.Is(err, nats.ErrPermissionViolation) || !strings.Contains(err.Error(), `"`+subject+`"`)
	}
}

// inspector looks at everything, with nats.go and with the nats CLI.
func (s *site) inspector(t *testing.T, sale *shop) {
	nc := s.connect("inspector")
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	ctx := bounded(t)
	heard := listen(t, nc)
	sale.buy("seen@example.com", 1).order(t)
	heard.outcome("seen=40example=2Ecom")
	kv, value := stockValue(t, js)
	values, err := kv.History(ctx, "tshirt")
	if err != nil || len(values) < 2 || values[len(values)-1].Revision() < value.Revision() {
		t.Errorf("history: %d values: %v", len(values), err)
	}
	watcher, err := kv.WatchAll(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if entry := <-watcher.Updates(); entry == nil || entry.Key() != "tshirt" {
		t.Errorf("the watch shows %v", entry)
	}
	if err := watcher.Stop(); err != nil {
		t.Error(err)
	}
	if h := fold(t, js, "tshirt"); len(h.foreign) != 0 || len(stored(t, js, "DEAD")) != 1 {
		t.Errorf("the history holds foreign values %v", h.foreign)
	}
	ordered, err := js.OrderedConsumer(ctx, "KV_stock", jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the history is read from its beginning", func() bool {
		msg, err := ordered.Next(jetstream.FetchMaxWait(patience))
		if errors.Is(err, nats.ErrNoResponders) {
			return false // its consumer is being made
		}
		if err != nil || !strings.Contains(string(msg.Data()), `"n":1,`) {
			t.Fatalf("the first value: %v, %v", msg, err)
		}
		return true
	})
	queue, err := js.Consumer(ctx, "ORDERS", "tshirt")
	if err != nil {
		t.Fatal(err)
	}
	if msg, err := queue.Next(jetstream.FetchMaxWait(time.Second)); err == nil {
		t.Errorf("the inspector took %s off the queue", msg.Data())
	}
	environ := s.context(t, "inspector")
	finish(t, with(command(t, "audit", "--context", "inspector"), environ,
		"FIRSTCOME_NATS_TOKEN=of-somebody-else")).want(t, 0, "ok: ") // a context stands for itself alone
	finish(t, with(command(t, "stock", "get", "tshirt", "--context", "inspector"), environ)).want(t, 0, `"supplied": 10`)
	finish(t, with(command(t, "stock", "add", "tshirt", "1", "--context", "inspector"), environ)).want(t, 1, "refuses", `"desk.tshirt"`)
	finish(t, with(command(t, "stock", "ls", "--context", "nobody"), environ)).want(t, 2, "nobody")
	t.Run("nats CLI", func(t *testing.T) { s.natsCLI(t, environ, sale) })
}

// natsCLI looks with the nats CLI as the broker's README shows, and may not touch.
func (s *site) natsCLI(t *testing.T, environ string, sale *shop) {
	path, err := natsBinary()
	if err != nil {
		t.Fatal(err)
	}
	nats := func(timeout string, args ...string) *exec.Cmd {
		cmd := exec.Command(path, append([]string{"--context", "inspector", "--timeout", timeout}, args...)...)
		return with(cmd, append(os.Environ(), environ)...)
	}
	for _, look := range []struct{ args, want string }{
		{"stream ls", "ORDERS"},
		{"stream info ORDERS", "orders.tshirt"},
		{"consumer info ORDERS tshirt", "tshirt"},
		{"kv get stock tshirt --raw", `"supplied":10`},
		{"kv history stock tshirt", "PUT"},
		{"kv get stock tshirt --revision 1 --raw", `"n":1,`},
		{"sub dead.> --all --raw --terminate-at-end", "garbage"},
		{"sub $KV.stock.tshirt --all --raw --terminate-at-end", `"n":2,`},
	} {
		finish(t, nats("10s", strings.Fields(look.args)...)).want(t, 0, look.want)
	}
	statuses := begin(t, nats("10s", "sub", "status.>"))
	statuses.await(`Subscribing on status.>`)
	watch := begin(t, nats("10s", "kv", "watch", "stock"))
	watch.await(`"supplied":10`)
	links := begin(t, nats("10s", "sub", "ledger.tshirt"))
	links.await(`Subscribing on ledger.tshirt`)
	lines := begin(t, nats("10s", "sub", "line.>"))
	lines.await(`Subscribing on line.>`)
	sale.buy("heard@example.com", 1).order(t)
	statuses.await(`status\.heard=40example=2Ecom\.(?s:.*)"status":"accepted"`)
	watch.await(`"decided":8`)
	links.await(`"decided":8`)
	lines.await(`line\.orders\.tshirt(?s:.*)heard@example.com`)

	tries := map[*process]string{} // and what each must not publish to
	for touch, subject := range map[string]string{
		"consumer next ORDERS tshirt":  "$JS.API.CONSUMER.MSG.NEXT.ORDERS.tshirt",
		"stream purge ORDERS -f":       "$JS.API.STREAM.PURGE.ORDERS",
		"stream purge DEAD -f":         "$JS.API.STREAM.PURGE.DEAD",
		"stream rm DEAD -f":            "$JS.API.STREAM.DELETE.DEAD",
		"consumer rm ORDERS tshirt -f": "$JS.API.CONSUMER.DELETE.ORDERS.tshirt",
		"kv del stock tshirt -f":       "$KV.stock.tshirt",
		"pub orders.tshirt {}":         "orders.tshirt",
		"pub desk.tshirt {}":           "desk.tshirt",
	} {
		tries[begin(t, nats("2s", strings.Fields(touch)...))] = subject
	}
	for try, subject := range tries {
		if try.exit() == 0 {
			t.Errorf("%v was allowed\n%s", try.cmd.Args, try.said)
		}
		refusal := regexp.MustCompile(`NATS CLI[^"]*" - "SHOP/user:inspector" - Publish Violation - Subject "` + regexp.QuoteMeta(subject) + `"`)
		eventually(t, "a server refuses "+subject, func() bool {
			return slices.ContainsFunc(s.nodes[:], func(node *process) bool { return refusal.MatchString(node.said.String()) })
		})
	}
}

// natsBinary builds the nats CLI, once, from the module that the gate uses.
var natsBinary = sync.OnceValues(func() (path string, err error) {
	path = filepath.Join(buildDir, "nats")
	out, err := exec.Command("go", "-C", filepath.Join("..", "..", ".ci", "tools"), "build", "-o", path, "github.com/nats-io/natscli/nats").CombinedOutput()
	if err != nil {
		err = fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, err
})
