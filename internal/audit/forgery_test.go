package audit

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"firstcome/internal/sale"
)

// Every way of breaking the sample, and the promises that are named. The forger makes
// all hashes true again.
func TestReplayNamesTheBrokenPromise(t *testing.T) {
	link := func(n int, change func(*sale.Link)) func(*story) {
		return func(s *story) { change(s.link(n)) }
	}
	order := func(n, i int, change func(*sale.DecidedOrder)) func(*story) {
		return link(n, func(l *sale.Link) { change(&l.Orders[i-1]) })
	}
	line := func(n, i int, change func(*sale.DecidedLine)) func(*story) {
		return link(n, func(l *sale.Link) { change(&l.Desk[i-1]) })
	}
	then := func(changes ...func(*story)) func(*story) {
		return func(s *story) {
			for _, change := range changes {
				change(s)
			}
		}
	}
	// ends keeps a lie from making those behind it look like others.
	ends := func(n int) func(*story) {
		return func(s *story) {
			s.stored = s.stored[:slices.IndexFunc(s.stored, func(v revision) bool { return v.link == s.link(n) })+1]
		}
	}
	shift := func(from int, available, sold, supplied int64) func(*story) {
		return func(s *story) { s.shift(from, available, sold, supplied) }
	}
	for _, test := range []struct {
		name  string
		forge func(*story)
		want  string
	}{
		{"nothing", func(*story) {}, ""},

		// What is not the next link is foreign, and those behind it have lost it.
		{"a link of another product", link(3, func(l *sale.Link) { l.Product = "mug" }), "P8"},
		{"a link with another number", link(3, func(l *sale.Link) { l.N = 7 }), "P8"},
		{"a message settled after a later one", link(4, func(l *sale.Link) { l.Queue.Seq = 1 }), "P8"},
		{"figures that do not add up", link(4, func(l *sale.Link) { l.Available++ }), "P8"},
		{"a stock below nothing", link(9, func(l *sale.Link) { l.Available, l.Supplied = -1, l.Supplied-1 }), ""}, // foreign, and the last

		// Created.
		{"a product made with hours and paused", then(link(1, func(l *sale.Link) { l.Paused, l.OpensAt = true, &l.At }), func(s *story) {
			for _, l := range s.links()[1:6] {
				l.Paused, l.OpensAt = true, &s.link(1).At
			}
		}), ""},
		{"a product made with units sold", link(1, func(l *sale.Link) { l.Available, l.Sold = 4, 1 }), "P1 P8"},
		{"a product made with orders decided", link(1, func(l *sale.Link) { l.Decided = 1 }), "P2 P8"},
		{"a product made with too many units", then(link(1, func(l *sale.Link) { l.Available, l.Supplied = sale.MaxUnits+1, sale.MaxUnits+1 }), ends(1)), "P8"},
		{"a product made behind a message", link(1, func(l *sale.Link) { l.Queue.Seq = 1 }), "P2 P8"},

		// Positions.
		{"a message settled twice", link(3, func(l *sale.Link) { l.Queue.Seq = 1 }), "P2"},
		{"no message settled", link(6, func(l *sale.Link) { l.Queue.Seq = 0 }), "P8"},
		{"an epoch that is no time", link(6, func(l *sale.Link) { l.Queue.Epoch = "bob@example.com" }), "P8"},
		{"an epoch that comes back", link(7, func(l *sale.Link) { l.Queue = sale.Position{Epoch: dayOne, Seq: 9} }), "P2"},
		{"the epoch of the day of making that comes back", then(link(2, func(l *sale.Link) { l.Queue.Epoch = dayTwo }),
			func(s *story) {
				for _, l := range s.links()[5:] {
					l.Queue.Epoch = "2026-03-03T08:00:00Z"
				}
			}), "P2"},
		{"a time that goes back", link(5, func(l *sale.Link) { l.At = noon }), "P8"},

		// Orders: units.
		{"a larger order than there was stock", order(6, 2, func(o *sale.DecidedOrder) { o.Quantity = 4 }), "P1"},
		{"sold to a buyer who was sold out", order(4, 1, func(o *sale.DecidedOrder) { o.Outcome = sale.Accepted }), "P1"},
		{"sold to a buyer who was sold out, and the figures with it", then(order(6, 3, func(o *sale.DecidedOrder) { o.Outcome = sale.Accepted }), shift(6, 0, 1, 1)), "P1"},
		{"sold to a buyer who had reached the limit", then(order(6, 1, func(o *sale.DecidedOrder) { o.Outcome = sale.Accepted }),
			order(6, 2, func(o *sale.DecidedOrder) { o.Quantity = 2 })), "P8"},
		{"the rest sold to a buyer who had reached the limit", then(order(6, 1, func(o *sale.DecidedOrder) { o.Quantity, o.Outcome = 3, sale.Accepted }),
			order(6, 2, func(o *sale.DecidedOrder) { o.Outcome = sale.SoldOut }), ends(6)), "P8"},
		{"sold to a buyer who had reached the limit, without stock", order(8, 1, func(o *sale.DecidedOrder) { o.Quantity = 4 }), "P1"},

		// Orders: refusals.
		{"a refusal that a later order gains by", then(order(2, 1, func(o *sale.DecidedOrder) { o.Outcome = sale.SoldOut }), shift(2, 2, -2, 0), ends(2)), "P2"},
		{"a refusal that a later link gains by", then(order(2, 2, func(o *sale.DecidedOrder) { o.Outcome = sale.SoldOut }), shift(2, 1, -1, 0),
			order(4, 1, func(o *sale.DecidedOrder) { o.Quantity = 4 }), ends(4)), "P2"},
		{"a refusal that nobody gains by", then(order(8, 1, func(o *sale.DecidedOrder) { o.Outcome = sale.SoldOut }), shift(8, 1, -1, 0)), "P5"},
		{"a refusal that a link behind a restock does not gain by", then(order(4, 2, func(o *sale.DecidedOrder) { o.Outcome = sale.SoldOut }), shift(4, 1, -1, 0),
			link(6, func(l *sale.Link) { l.Orders, l.Decided = l.Orders[1:2], 5 }), order(6, 1, func(o *sale.DecidedOrder) { o.Place = 5 }), ends(6)), "P5"},
		{"two refusals that nobody gains by", then(order(6, 2, func(o *sale.DecidedOrder) { o.Outcome = sale.SoldOut }), shift(6, 3, -3, 0), ends(6)), "P5"},
		{"a refusal by a limit that is not reached", then(order(8, 1, func(o *sale.DecidedOrder) { o.Outcome = sale.LimitReached }), shift(8, 1, -1, 0)), "P5"},
		{"a smaller order refused as a larger one was", order(4, 1, func(o *sale.DecidedOrder) { o.Quantity = 1 }), "P2"},
		{"a limit called a lack of stock", order(6, 1, func(o *sale.DecidedOrder) { o.Outcome = sale.SoldOut }), "P8"},
		{"a lack of stock called a limit", order(6, 3, func(o *sale.DecidedOrder) { o.Outcome = sale.LimitReached }), "P8"},
		{"another buyer at the limit", order(6, 1, func(o *sale.DecidedOrder) { o.Email = testBuyer(9) }), "P2"},

		// Orders: outcomes and places.
		{"a second outcome", order(4, 3, func(o *sale.DecidedOrder) { o.Outcome, o.Place = sale.SoldOut, 5 }), "P4 P8"},
		{"one order twice", order(6, 3, func(o *sale.DecidedOrder) { o.ID = testID(2) }), "P4"},
		{"one order twice in a group", order(6, 3, func(o *sale.DecidedOrder) { o.ID = testID(6) }), "P4"},
		{"a duplicate of nothing", order(4, 3, func(o *sale.DecidedOrder) { o.ID = testID(99) }), "P4"},
		{"an order called a duplicate", order(4, 1, func(o *sale.DecidedOrder) { o.Outcome, o.Place = sale.Duplicate, 0 }), "P2 P4 P8"},
		{"a duplicate with a place", order(4, 3, func(o *sale.DecidedOrder) { o.Place = 5 }), "P4"},
		{"places exchanged", link(6, func(l *sale.Link) { l.Orders[0].Place, l.Orders[1].Place = l.Orders[1].Place, l.Orders[0].Place }), "P2"},
		{"a place left out", order(6, 3, func(o *sale.DecidedOrder) { o.Place++ }), "P2"},
		{"no place", order(6, 3, func(o *sale.DecidedOrder) { o.Place = 0 }), "P2"},
		{"an order taken out", link(8, func(l *sale.Link) { l.Orders = nil }), "P8"},
		{"an order put in", link(9, func(l *sale.Link) { l.Orders = sample().link(8).Orders }), "P1 P2 P4"},

		// The desk.
		{"a desk line that was a duplicate", line(5, 3, func(l *sale.DecidedLine) { l.Refused = "" }), "P4"},
		{"a desk line called a duplicate", line(5, 1, func(l *sale.DecidedLine) { l.Refused = sale.DuplicateLine }), "P4"},
		{"a desk line that took back too much", line(5, 4, func(l *sale.DecidedLine) { l.Refused = "" }), "P8"},
		{"a desk line refused for nothing", line(7, 3, func(l *sale.DecidedLine) { l.Refused = sale.NotEnough }), "P8"},
		{"a desk line refused for another reason", line(7, 2, func(l *sale.DecidedLine) { l.Refused = sale.OutOfRange }), "P8"},
		{"a desk line refused for a made up reason", line(7, 2, func(l *sale.DecidedLine) { l.Refused = "bob@example.com" }), "P8"},
		{"a desk line of an earlier link", line(7, 3, func(l *sale.DecidedLine) { l.ID = testID(1) }), "P1 P4"},
		{"a desk line of an earlier link that was refused", line(7, 3, func(l *sale.DecidedLine) { l.ID = testID(3) }), "P1 P4"},
		{"a larger supply", line(5, 1, func(l *sale.DecidedLine) { *l.Units = 3 }), "P8"},
		{"a smaller supply", line(5, 1, func(l *sale.DecidedLine) { *l.Units = 1 }), "P1"},
		{"a supply taken out", link(5, func(l *sale.Link) { l.Desk = l.Desk[1:] }), "P4"}, // the duplicate is none any more
		{"another limit asked for", line(5, 2, func(l *sale.DecidedLine) { *l.LimitPerBuyer = 2 }), "P8"},

		// Figures and terms.
		{"one unit too many left", then(shift(4, 1, -1, 0), ends(4)), "P1"},
		{"one unit too few left", shift(4, -1, 1, 0), "P8"},
		{"a unit supplied by nobody", then(shift(4, 1, 0, 1), ends(4)), "P1"},
		{"a unit supplied and sold", shift(8, 0, 1, 1), "P8"},
		{"a unit held", link(8, func(l *sale.Link) { l.Held, l.Supplied = 1, l.Supplied+1 }), "P8"},
		{"a decided order too many", link(8, func(l *sale.Link) { l.Decided++ }), "P8"},
		{"another limit", link(9, func(l *sale.Link) { l.LimitPerBuyer = 4 }), "P8"},
		{"no limit", then(link(5, func(l *sale.Link) { l.LimitPerBuyer = 0 }), ends(5)), "P8"},
		{"another opening", link(9, func(l *sale.Link) { l.OpensAt = &noon }), "P8"},
		{"no opening", link(9, func(l *sale.Link) { l.OpensAt = nil }), "P8"},
		{"a closing", link(9, func(l *sale.Link) { l.ClosesAt = &noon }), "P8"},
		{"not paused any more", link(9, func(l *sale.Link) { l.Paused = false }), "P8"},
		{"the opening written in another way", link(9, func(l *sale.Link) { at := l.OpensAt.In(time.UTC); l.OpensAt = &at }), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := sample()
			test.forge(s)
			s.seal()
			_, findings := replay("tshirt", s.bytes())
			if promises(findings) != test.want {
				t.Errorf("broken: %s, want %s\n%s", promises(findings), test.want, lines(findings))
			}
			checkAddresses(t, findings)
		})
	}
}

func lines(findings []Finding) string {
	var b strings.Builder
	for _, f := range findings {
		fmt.Fprintln(&b, f)
	}
	return b.String()
}

var address = regexp.MustCompile(`\w@\w`)

func checkAddresses(t *testing.T, findings []Finding) {
	t.Helper()
	for _, f := range findings {
		if address.MatchString(f.String()) {
			t.Errorf("a finding shows an address: %v", f)
		}
	}
}

// A forger who leaves the hashes as they were is found whatever was altered, but in the
// newest link, which nothing vouches for yet.
func TestReplayFindsAlteredBytes(t *testing.T) {
	links := sample().bytes()
	for i := range links[:len(links)-1] {
		if links[i].link == nil {
			continue
		}
		for at := i; at < len(links[i].raw); at += 11 { // all of them take long
			stored := slices.Clone(links)
			stored[i].raw = slices.Clone(stored[i].raw)
			stored[i].raw[at] ^= 1
			r, findings := replay("tshirt", stored)
			if findings = append(findings, CheckQueue(sampleQueue(), r)...); len(findings) == 0 {
				t.Fatalf("not found: %s", stored[i].raw)
			}
			checkAddresses(t, findings)
		}
	}
}

// Links that are missing are a cut history, and values that were put by hand are none.
func TestReplayOfACutHistory(t *testing.T) {
	s := sample()
	var links []revision
	for _, v := range s.bytes() {
		if v.link != nil {
			links = append(links, v)
		}
	}
	foreign := revision{seq: 100, raw: []byte("garbage")}
	at := func(n int) revision { return links[n-1] }
	ahead := func(n uint64) revision {
		link := *s.link(9)
		link.N, link.Prev = n, sale.HashOf(nil)
		return revision{seq: sale.Seq(200 + n), raw: link.Encode()}
	}
	// after hangs on a value, as a link of that number.
	after := func(value []byte, n uint64) revision {
		link := *s.link(9)
		link.N, link.Prev = n, sale.HashOf(value)
		return revision{seq: sale.Seq(300 + n), raw: link.Encode()}
	}
	first := []byte(`{"v":2,"product":"tshirt","n":1,"prev":""}`)
	other := begin("mug", 5, 0, dayOne)
	other.settle(dayOne, 1, false, "garbage")
	for _, test := range []struct {
		name   string
		stored []revision
		want   string // in the finding; "": there is none
	}{
		{"the first link", links[1:], "it begins with link 2 at revision 8"},
		{"the first links", links[4:], "it begins with link 5 at revision 17"},
		{"all but the newest", links[8:], "it begins with link 9 at revision 32"},
		{"all but the newest, and a value by hand", []revision{at(9), foreign}, "it begins with link 9 at revision 32"},
		{"all but the newest, beside one by hand", []revision{foreign, at(9)}, "it begins with link 9 at revision 32"},
		{"all but two", []revision{at(5), at(9)}, "it begins with link 5 at revision 17"},
		{"all but the newest, and a first one by hand", []revision{at(9), {seq: 100, raw: first}}, "it begins with link 9 at revision 32"},
		{"one in the middle", slices.Concat(links[:4], links[5:]), "link 6 at revision 23 does not continue link 4"},
		{"some in the middle", slices.Concat(links[:2], links[5:]), "link 6 at revision 23 does not continue link 2"},
		{"one, with a value by hand behind it", []revision{at(1), at(3), foreign, at(4)}, "link 3 at revision 11 does not continue link 1"},
		{"two in exchanged order", []revision{at(1), at(2), at(4), at(3), at(5), at(6)}, "link 4 at revision 14 does not continue link 3"},
		{"altered", []revision{at(1), {seq: 8, raw: append(slices.Clone(at(2).raw), ' ')}, at(3), at(4)}, "link 3 at revision 11 does not continue link 2"},

		{"the newest", links[:8], ""},
		{"one before the newest", slices.Concat(links[:7], links[8:]), ""}, // the queue has to tell
		{"none, and some are there again", slices.Concat(links, links[2:5]), ""},
		{"none, and values by hand lie ahead", append(slices.Clone(links), ahead(10), ahead(11), ahead(12)), ""},
		{"none, and one that lay ahead was reached", slices.Concat(links[:4], []revision{ahead(6), at(5), at(6), at(7)}), ""},
		{"none, and one that lay ahead goes on behind it", slices.Concat(links[:4], []revision{ahead(5), at(5), after(ahead(5).raw, 6), at(6)}), ""},
		{"none, and one by hand leaves out a number", append(slices.Clone(links), ahead(10), after(ahead(10).raw, 12)), ""},
		{"all, and another product's are there", other.bytes(), ""},
		{"all, and one by hand is there", []revision{{seq: 1, raw: first}}, ""},
		{"all, and one of an older layout is there", []revision{{seq: 1, raw: []byte(`{"v":1,"product":"tshirt","n":5,"prev":""}`)}}, ""},
	} {
		_, findings := replay("tshirt", test.stored)
		switch {
		case test.want == "" && len(findings) == 0:
		case len(findings) == 1 && test.want != "" && strings.HasPrefix(findings[0].String(), "P8 broken for tshirt: the history is cut: "+test.want):
		default:
			t.Errorf("%s: %v, want %q", test.name, findings, test.want)
		}
	}
}

// A finding says what an operator needs: where, and how much.
func TestFindingsSayWhere(t *testing.T) {
	for _, test := range []struct {
		forge func(*story)
		want  string
	}{
		{func(s *story) { s.link(6).Orders[1].Quantity = 4 }, "P1 broken for tshirt: link 6 accepts order " + testID(6).String() + " for 4 units with 3 left"},
		{func(s *story) { s.link(4).Orders[0].Quantity = 1 }, "P2 broken for tshirt: the order at place 3 in link 4 is sold_out, for 1 units with 2 left, and the one at place 4 in link 4 got 1 units"},
		{func(s *story) {
			s.link(6).Orders[1].Outcome = sale.SoldOut
			s.shift(6, 3, -3, 0)
			s.stored = s.stored[:7]
		}, "P5 broken for tshirt: the order at place 6 in link 6 is sold_out, for 3 units with 3 left (and 1 more like it)"},
		{func(s *story) { s.link(5).Desk[0].Refused = "bob" }, "P8 broken for tshirt: desk line " + testID(1).String() + " in link 5 is refused for a reason that is none, by the rule it is done"},
		{func(s *story) { s.link(7).Desk[1].Refused = sale.OutOfRange }, "is refused as out-of-range, by the rule it is refused as closes-before-opens"},
		{func(s *story) {
			s.shift(9, -1, 0, -1)
			s.link(9).Available, s.link(9).Sold = 0, 7
			s.link(9).OpensAt = nil
		}, "P8 broken for tshirt: link 9 has sold 7 instead of 8, supplied 7 instead of 8, opens_at none instead of 2026-03-01T10:00:00Z"},
		{func(s *story) { s.shift(4, 1, -1, 0) }, "P1 broken for tshirt: link 4 has available 2 instead of 1, sold 3 instead of 4"},
		{func(s *story) { s.link(8).Held, s.link(8).Supplied = 1, 9 }, "P8 broken for tshirt: link 8 has held 1 instead of 0, supplied 9 instead of 8"},
		{func(s *story) { s.link(5).At = noon }, "P8 broken for tshirt: link 5 is of 2026-03-01T12:00:00Z, before link 4 of 2026-03-01T12:00:03Z"},
		{func(s *story) { s.link(3).Queue.Seq = 1 }, "P2 broken for tshirt: link 3 settles message 1 a second time"},
	} {
		s := sample()
		test.forge(s)
		s.seal()
		_, findings := replay("tshirt", s.bytes())
		if !slices.ContainsFunc(findings, func(f Finding) bool { return strings.Contains(f.String(), test.want) }) {
			t.Errorf("%shas no %q", lines(findings), test.want)
		}
	}
}

// A link is measured by what the ones before it say, so that one lie is one finding.
func TestOneLieIsOneFinding(t *testing.T) {
	for name, forge := range map[string]func(*story){
		"sold to a buyer who had reached the limit": func(s *story) {
			s.link(6).Orders[0].Outcome = sale.Accepted
			s.link(6).Orders[1].Quantity = 2
		},
		"an order called a duplicate before it is decided": func(s *story) { s.link(4).Orders[2].ID = testID(6) },
		"places from one on": func(s *story) {
			for _, n := range []int{4, 6, 8} {
				for i := range s.link(n).Orders {
					if o := &s.link(n).Orders[i]; o.Place > 0 {
						o.Place++
					}
				}
			}
			for _, l := range s.links()[2:] {
				l.Decided++
			}
		},
		"terms from one on": func(s *story) {
			for _, l := range s.links()[7:] {
				l.LimitPerBuyer = 9
			}
		},
		"a unit that was supplied by nobody": func(s *story) { s.shift(8, 1, 0, 1) },
	} {
		s := sample()
		forge(s)
		s.seal()
		if _, findings := replay("tshirt", s.bytes()); len(findings) != 1 {
			t.Errorf("%s:\n%s", name, lines(findings))
		}
	}
}

// Whatever bytes are stored, the audit does not fall over, shows no address, and finds
// that a link was altered.
func FuzzReplay(f *testing.F) {
	s := sample()
	links := s.bytes()
	for i := range links {
		f.Add(uint8(i), links[i].raw)
	}
	for i, seed := range []string{"", "null", "[]", "{}", `{"v":2,"product":"tshirt","n":18446744073709551615,"prev":""}`, `{"v":2,"product":"bob@example.com"}`,
		`{"v":2,"product":"tshirt","n":2.5}`, `{"bob@example.com":1,"bob@example.com":2}`} {
		f.Add(uint8(i), []byte(seed))
	}
	for _, change := range []func(*sale.Link){
		func(l *sale.Link) { l.Queue = sale.Position{Epoch: "bob@example.com", Seq: 1<<64 - 1} },
		func(l *sale.Link) { l.Change = "bob@example.com" },
		func(l *sale.Link) { l.Decided, l.Supplied, l.Available = 1<<64-1, 1<<63-1, 1<<63-1-l.Sold },
		func(l *sale.Link) { l.Change, l.Desk = sale.DeskTaken, s.link(7).Desk },
		func(l *sale.Link) { l.At = time.Time{} },
	} {
		link := *s.link(4)
		change(&link)
		f.Add(uint8(3), link.Encode())
	}
	f.Fuzz(func(t *testing.T, at uint8, value []byte) {
		stored := slices.Clone(links)
		i := int(at) % len(stored)
		altered := stored[i].link != nil && i < len(stored)-1 && string(value) != string(stored[i].raw)
		stored[i].raw = value
		r, findings := replay("tshirt", stored)
		findings = append(findings, CheckQueue(sampleQueue(), r)...)
		checkAddresses(t, findings)
		for _, note := range r.Summary().Notes {
			if address.MatchString(note) {
				t.Errorf("a note shows an address: %s", note)
			}
		}
		if altered && len(findings) == 0 {
			t.Errorf("an altered link is not found")
		}
	})
}
