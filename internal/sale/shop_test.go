package sale_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"firstcome/internal/sale"
	"firstcome/internal/saletest"
)

// The shop of the worker's tests: one product on the fakes, in a synctest bubble,
// where waiting costs nothing. The clock that decides is fixed, and all instances have
// one name, so that two runs of one scenario write the same bytes.

const (
	product   = sale.ProductID("tshirt")
	epoch     = "2026-03-01T08:00:00.000000001Z"
	nextEpoch = "2026-03-02T08:00:00.000000001Z"
	ackWait   = 5 * time.Second
)

var decidedAt = time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)

// scenario is a sale, and what must become of it.
type scenario struct {
	name            string
	supplied, limit int64
	stages          []stage
	// want are the outcomes of the links after the first: links parted by " | ", "-" if
	// a link has none. A desk line's is what it did, or why it was refused.
	want string
	dead int // letters
}

// stage begins when all before it is settled.
type stage struct {
	recreate bool // the queue, in nextEpoch
	messages []string
}

func uuid(id int) (uuid sale.OrderID) {
	copy(uuid[:], fmt.Sprintf("order-%010d", id))
	return uuid
}

// line is an order as an instance writes it.
func line(id, buyer, quantity int) string {
	o := sale.Order{ID: uuid(id), Email: sale.Email(fmt.Sprintf("buyer%d@example.com", buyer)), Quantity: quantity,
		PlacedAt: decidedAt.Add(-time.Second)}
	return string(o.AppendLine(nil))
}

func group(lines ...string) string { return strings.Join(lines, "\n") + "\n" }

// desk is a message of desk lines.
func desk(lines ...string) string { return deskMark + group(lines...) }

const deskMark = "desk\n"

func steer(id int, fields string) string {
	return fmt.Sprintf(`{"id":"%s",%s,"by":"ann","why":"<\"so\">"}`, uuid(id), fields)
}

func supply(id, units int) string       { return steer(id, fmt.Sprintf(`"do":"supply","units":%d`, units)) }
func available(id, n int) string        { return steer(id, fmt.Sprintf(`"do":"supply","available":%d`, n)) }
func terms(id int, terms string) string { return steer(id, `"do":"terms",`+terms) }

var scenarios = []scenario{
	{name: "one by one", supplied: 2,
		stages: []stage{{messages: []string{line(1, 1, 1), line(2, 2, 1), line(3, 3, 1)}}},
		want:   "accepted | accepted | sold_out"},
	{name: "duplicates", supplied: 3,
		stages: []stage{{messages: []string{
			group(line(1, 1, 1), line(2, 2, 1), line(1, 1, 1)), line(2, 2, 1), group(line(3, 3, 2), line(4, 4, 1), line(3, 3, 2))}}},
		want: "accepted accepted duplicate | duplicate | sold_out accepted duplicate"},
	{name: "poison, and nothing after it", supplied: 5,
		stages: []stage{{messages: []string{
			group(line(1, 1, 1), "garbage", line(2, 2, 1), `{"email":"nobody"}`), "garbage", "", group("{}", "[]"), line(3, 3, 1), "garbage"}}},
		want: "accepted accepted | - | - | - | accepted | -", dead: 7},
	{name: "limits", supplied: 5, limit: 2,
		stages: []stage{{messages: []string{group(line(1, 1, 1), line(2, 1, 2), line(3, 1, 1)), line(4, 1, 1), group(line(5, 2, 3), line(6, 2, 2))}}},
		want:   "accepted limit_reached accepted | limit_reached | limit_reached accepted"},
	{name: "published by hand", supplied: 2,
		stages: []stage{{messages: []string{`{"email":"a@b.c"}`, group(`{"email":"A@B.C"}`, `{"email":"d@e.f","quantity":2}`), `{"email":"d@e.f"}`}}},
		want:   "accepted | accepted sold_out | sold_out"},
	{name: "a recreated queue", supplied: 4,
		stages: []stage{
			{messages: []string{line(1, 1, 1), desk(supply(91, 1)), "garbage"}},
			{recreate: true, messages: []string{line(3, 3, 1), group(line(1, 1, 1), line(4, 4, 2)), desk(supply(91, 1)), "garbage", line(5, 5, 2)}}},
		want: "accepted | supply | - | accepted | duplicate accepted | duplicate | - | sold_out", dead: 2},
	{name: "the desk's supply", supplied: 1,
		stages: []stage{{messages: []string{line(1, 1, 1), line(2, 2, 1), desk(supply(91, 4)), group(line(3, 3, 5), line(4, 4, 2)),
			desk(supply(92, -1), supply(93, -9), supply(92, -1), available(94, 2)), line(5, 5, 2), desk(supply(91, 4)), line(6, 6, 1),
			desk(available(95, 1), available(96, 3), supply(97, 1_000_000_000_000)), line(7, 7, 3), desk(available(98, 0))}}},
		want: "accepted | sold_out | supply | sold_out accepted | supply not-enough duplicate supply | accepted | duplicate | sold_out | " +
			"supply supply out-of-range | accepted | supply"},
	{name: "the desk's terms, and its poison", supplied: 9,
		stages: []stage{{messages: []string{line(1, 1, 2), desk(terms(91, `"limit_per_buyer":2,"paused":true`)), group(line(2, 1, 1), line(3, 2, 3)),
			desk(terms(92, `"opens_at":"2026-03-01T10:00:00Z","closes_at":"2026-03-01T10:00:00Z"`), "garbage", line(4, 4, 1), terms(92, `"paused":false`),
				terms(93, `"closes_at":"2026-03-01T08:00:00Z","limit_per_buyer":3`)), line(5, 1, 1), desk("garbage"), supply(94, 1)}}},
		want: "accepted | terms | limit_reached limit_reached | closes-before-opens duplicate terms | accepted | - | -", dead: 4},
}

// tester is what *testing.T and *rapid.T share.
type tester interface {
	Fatal(...any)
	Fatalf(string, ...any)
	Errorf(string, ...any)
	Cleanup(func())
}

// shop is where a scenario is played.
type shop struct {
	t         tester
	orders    *saletest.Orders
	store     *saletest.History
	letters   *saletest.DeadLetters
	announcer *saletest.Announcer
	observer  *observer
	published []sale.Position // of the product's messages
}

func newShop(t tester, sc *scenario) *shop {
	s := &shop{t: t, orders: saletest.NewOrders(epoch, ackWait), store: saletest.NewHistory(),
		letters: saletest.NewDeadLetters(), announcer: &saletest.Announcer{}, observer: &observer{}}
	s.create(product, sc)
	return s
}

func (s *shop) create(product sale.ProductID, sc *scenario) {
	first, err := sale.NewProduct(product, sc.supplied, sc.limit, epoch, decidedAt)
	if err != nil {
		s.t.Fatal(err)
	}
	s.store.Put(product, first.Encode())
}

// publish puts messages into the product's queue.
func (s *shop) publish(messages ...string) {
	for _, m := range messages {
		var seq uint64
		if data, ok := strings.CutPrefix(m, deskMark); ok {
			seq = s.orders.PublishDesk(product, []byte(data))
		} else {
			seq = s.orders.Publish(product, []byte(m))
		}
		s.published = append(s.published, sale.Position{Epoch: s.orders.Witness(product).Epoch, Seq: seq})
	}
}

// instance is a process: a worker and the book that it follows the history with.
type instance struct {
	worker *sale.Worker
	book   *sale.Book
	ctx    context.Context // ends when the process is told to stop
	kill   context.CancelFunc
	done   chan struct{} // closed when nothing of it runs any more
}

// follow keeps a book until ctx ends.
func (s *shop) follow(ctx context.Context, product sale.ProductID, book *sale.Book) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.store.Feed(ctx, product, book); err != nil && !errors.Is(err, sale.ErrNewer) {
			s.t.Errorf("feed: %v", err)
		}
	}()
	return done
}

func (s *shop) start(f *saletest.Faults, book *sale.Book) *instance {
	return s.startWith(product, f, book, func(*sale.Worker) {})
}

func (s *shop) startWith(product sale.ProductID, f *saletest.Faults, book *sale.Book, change func(*sale.Worker)) *instance {
	ctx, kill := context.WithCancel(context.Background())
	f.OnCrash = kill
	i := &instance{book: book, ctx: ctx, kill: kill, done: make(chan struct{}), worker: &sale.Worker{
		Product: product, Name: "shop", Queue: f.Queue(s.orders.Queue(product)), History: f.History(s.store),
		Book: book, Announcer: f.Announcer(s.announcer), DeadLetters: f.DeadLetters(s.letters),
		Beat: time.Second, StepTimeout: 2 * time.Second,
		Now: func() time.Time { return decidedAt }, Observer: s.observer, Log: slog.New(slog.DiscardHandler),
	}}
	change(i.worker)
	go func() {
		defer close(i.done)
		following, stop := context.WithCancel(context.WithoutCancel(ctx))
		followed := s.follow(following, product, book)
		i.worker.Run(ctx)
		stop()
		<-followed
		f.Wait()
	}()
	s.t.Cleanup(i.stop)
	return i
}

func (i *instance) stop() {
	i.kill()
	<-i.done
}

// open puts a stage before the workers.
func (s *shop) open(st *stage) {
	if st.recreate {
		s.orders.Recreate(nextEpoch)
	}
	s.publish(st.messages...)
}

// play runs a scenario to its end: the first instance with faults, and whenever
// it has died, another one. Its book is warm if it followed from the beginning.
func play(t tester, sc *scenario, f *saletest.Faults, warm bool) *record {
	return playIn(newShop(t, sc), sc, f, warm)
}

func playIn(s *shop, sc *scenario, f *saletest.Faults, warm bool) *record {
	next := newBook()
	following, stop := context.WithCancel(context.Background())
	defer stop()
	if warm {
		followed := s.follow(following, product, next)
		defer func() { stop(); <-followed }()
	}
	i := s.start(f, newBook())
	for n := range sc.stages {
		s.open(&sc.stages[n])
		for s.drained(i) != nil {
			<-i.done
			i = s.start(&saletest.Faults{}, next)
			next = newBook()
		}
	}
	i.stop()
	return s.record(i.book)
}

// drained waits until no message is left, and every feed has brought what there is. It
// fails when the instance dies first.
func (s *shop) drained(i *instance) error {
	ctx, cancel := context.WithTimeout(i.ctx, time.Hour)
	defer cancel()
	err := s.orders.Drained(ctx)
	if ctx.Err() == context.DeadlineExceeded {
		s.t.Fatalf("%v; the worker says %v", err, i.worker.Stuck())
	}
	synctest.Wait()
	return err
}

// record is what a sale leaves behind. Two are the same if their texts are.
type record struct {
	outcomes string
	links    []string
	letters  []string
	statuses []string // as announced, once each, sorted
	book     []string // as the last worker's book answers
	foreign  int      // values that are no links
}

func (s *shop) record(book *sale.Book) *record {
	r := &record{}
	var outcomes []string
	buyers := map[sale.Email]struct{}{}
	links, foreign := s.chain(product)
	for _, l := range links {
		r.links = append(r.links, string(l.Encode()))
		var all []string
		for _, o := range l.Orders {
			all = append(all, o.Outcome.String())
			buyers[o.Email] = struct{}{}
		}
		for _, d := range l.Desk {
			if d.Refused != "" {
				all = append(all, string(d.Refused))
			} else {
				all = append(all, string(d.Do))
			}
		}
		if len(all) == 0 {
			all = []string{"-"}
		}
		if l.N > 1 {
			outcomes = append(outcomes, strings.Join(all, " "))
		}
	}
	r.outcomes, r.foreign = strings.Join(outcomes, " | "), foreign
	for _, l := range s.letters.Letters() {
		r.letters = append(r.letters, fmt.Sprintf("%s %d-%d %s %q: %s", l.Epoch, l.Seq, l.Line, l.Product, l.Raw, l.Reason))
	}
	slices.Sort(r.letters)
	for _, status := range s.announcer.Heard() {
		r.statuses = append(r.statuses, string(status.AppendJSON(nil)))
	}
	slices.Sort(r.statuses)
	r.statuses = slices.Compact(r.statuses)
	for buyer := range buyers {
		for _, status := range book.Newest(buyer, 100) {
			r.book = append(r.book, string(status.AppendJSON(nil)))
		}
	}
	slices.Sort(r.book)
	p, _ := book.Product(product)
	r.book = append(r.book, fmt.Sprintf("%+v, %d", p.Queue, p.Waiting), string((&sale.Link{Stock: p.Stock, N: p.N}).Encode()))
	if n := book.Foreign(product); n != uint64(foreign) {
		s.t.Errorf("the book counts %d foreign values, %d are stored", n, foreign)
	}
	return r
}

// diff says where a record differs, for people; "" if nowhere.
func (r *record) diff(want *record) string {
	var b strings.Builder
	for _, part := range []struct {
		name      string
		got, want []string
	}{
		{"outcomes", []string{r.outcomes}, []string{want.outcomes}},
		{"links", r.links, want.links},
		{"dead letters", r.letters, want.letters},
		{"statuses", r.statuses, want.statuses},
		{"book", r.book, want.book},
	} {
		if !slices.Equal(part.got, part.want) {
			fmt.Fprintf(&b, "%s:\n got  %s\n want %s\n", part.name, strings.Join(part.got, "\n      "), strings.Join(part.want, "\n      "))
		}
	}
	return b.String()
}

// chain reads the product's links and recomputes each from the ones before (P8), and
// holds them against the queue: one message, one link (P2, P3).
func (s *shop) chain(product sale.ProductID) (links []*sale.Link, foreign int) {
	past := &told{orders: map[sale.OrderID]bool{}, lines: map[sale.OrderID]bool{}, got: map[sale.Email]int64{}}
	head := sale.Head{Stock: sale.Stock{Product: product}}
	prev := ""
	var settled []sale.Position
	for _, r := range s.store.Revisions(product) {
		before := head
		link, err := head.Continue(r.Value)
		if err != nil {
			foreign++
			continue
		}
		links = append(links, link)
		if link.N != uint64(len(links)) || link.Prev != prev {
			s.t.Errorf("P8: revision %d is link %d with prev %q; want link %d, %q", r.Seq, link.N, link.Prev, len(links), prev)
		}
		sum := sha256.Sum256(r.Value)
		prev = hex.EncodeToString(sum[:])
		if link.N == 1 {
			continue
		}
		settled = append(settled, link.Queue)
		m := &sale.Message{Product: product, Desk: link.Change == sale.DeskTaken, Epoch: link.Queue.Epoch, Seq: link.Queue.Seq}
		var lines []sale.Line
		for i := range link.Orders {
			lines = append(lines, sale.Line{Order: link.Orders[i].Order})
		}
		for i := range link.Desk {
			lines = append(lines, sale.Line{Desk: &link.Desk[i].DeskLine})
		}
		if want, _ := before.Decide(past, m, lines, link.By, link.At); string(want.Encode()) != string(r.Value) {
			s.t.Errorf("P8: revision %d is\n%s\nrecomputed it is\n%s", r.Seq, r.Value, want.Encode())
		}
		past.tell(s.t, link)
	}
	if past.sold != head.Sold {
		s.t.Errorf("P1: %d units are in accepted orders, and the stock says %d", past.sold, head.Sold)
	}
	if product == "tshirt" && s.published != nil && !slices.Equal(settled, s.published) {
		s.t.Errorf("P3: the messages %v were published, the links settle %v", s.published, settled)
	}
	if err := s.orders.Witness(product).Check(head.Queue); err != nil {
		s.t.Errorf("P3: %v", err)
	}
	return links, foreign
}

// told implements sale.Past by what links said.
type told struct {
	orders, lines map[sale.OrderID]bool
	got           map[sale.Email]int64
	sold          int64
}

func (p *told) Decided(id sale.OrderID, _ sale.ProductID) bool { return p.orders[id] }
func (p *told) Steered(id sale.OrderID, _ sale.ProductID) bool { return p.lines[id] }
func (p *told) Got(buyer sale.Email, _ sale.ProductID) int64   { return p.got[buyer] }

func (p *told) tell(t tester, l *sale.Link) {
	for _, o := range l.Orders {
		if p.orders[o.ID] == o.Outcome.Final() {
			t.Errorf("P4: order %s is %s in link %d, and was decided before: %v", o.ID, o.Outcome, l.N, p.orders[o.ID])
		}
		p.orders[o.ID] = true
		if o.Outcome == sale.Accepted {
			p.got[o.Email] += int64(o.Quantity)
			p.sold += int64(o.Quantity)
		}
	}
	for _, d := range l.Desk {
		p.lines[d.ID] = true
	}
}

type observer struct {
	decided, redelivered, conflicts atomic.Int64
}

func (o *observer) Decided(sale.ProductID, []sale.Outcome, time.Duration) { o.decided.Add(1) }
func (o *observer) Redelivered(sale.ProductID)                            { o.redelivered.Add(1) }
func (o *observer) Conflict(sale.ProductID)                               { o.conflicts.Add(1) }

func newBook() *sale.Book { return sale.NewBook(1000) }

var _ tester = (*testing.T)(nil)
