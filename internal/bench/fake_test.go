package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/google/uuid"
)

// faults are the ways in which the fake breaks its promise, each once.
type faults struct {
	oversell       bool // accepts one order more than there is stock
	undersell      bool // shuts the door while one unit is left
	lose           bool // never decides an order
	forget         bool // does not know an order by GET
	duplicatePlace bool // gives two orders one place
	skipPlace      bool // leaves a place out
	swapPlaces     bool // decides an order before one that was queued earlier
	acceptLate     bool // accepts an order after one was told sold out
	change         bool // tells another outcome by GET than on the socket
	changeLive     bool // tells an outcome on the socket, then another
	mute           bool // does not tell an outcome on the socket
	miscount       bool // counts a unit too few as sold

	// Not breaches: a check must stay green.
	hangUp bool   // closes every socket in the middle of the run, once
	reject bool   // answers 400 to an order
	reset  bool   // closes a connection instead of answering, the order being stored
	slow   bool   // decides only when it is asked for the product
	opens  bool   // is paused at first, and opens in the middle of the run
	away   string // answers 503 to an order, with this problem type
	limit  bool   // refuses a buyer's second order
}

const faulty = 5 // the order, counted from 1, at which a fault strikes

type fakeOrder struct {
	ID       string `json:"id"`
	Product  string `json:"product"`
	Email    string `json:"email"`
	Quantity int    `json:"quantity"`
	Status   string `json:"status"`
	Message  string `json:"message"`
	Place    int64  `json:"place,omitempty"`
	Rev      int    `json:"rev"`
}

// fake is a small shop that speaks the contract. Every second order is decided
// before its 202 is sent, the others by a goroutine, so that the outcome comes
// before and after the answer.
type fake struct {
	faults faults
	stop   chan struct{}
	wake   chan struct{}
	joined sync.WaitGroup

	mu      sync.Mutex
	product product
	places  int64
	taken   int
	decided int
	orders  map[string]*fakeOrder
	line    []*fakeOrder
	sockets map[string][]*websocket.Conn // written to under mu
	opened  int
	posts   int
}

func startFake(t *testing.T, stock int64, f faults) (*fake, string) {
	t.Helper()
	s := &fake{
		faults: f, stop: make(chan struct{}), wake: make(chan struct{}, 1),
		product: product{ID: "tshirt", Available: stock, Supplied: stock, State: "open"},
		orders:  map[string]*fakeOrder{}, sockets: map[string][]*websocket.Conn{},
	}
	if stock == 0 {
		s.product.State = "sold_out"
	}
	if f.opens {
		s.product.State = "paused"
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /buy", s.buy)
	mux.HandleFunc("GET /orders/{id}", s.order)
	mux.HandleFunc("GET /products", s.list)
	mux.HandleFunc("GET /products/{id}", s.one)
	mux.HandleFunc("GET /ws", s.socket)
	server := httptest.NewServer(mux)
	s.joined.Go(s.work)
	t.Cleanup(func() {
		close(s.stop)
		server.CloseClientConnections()
		server.Close()
		s.hangUp()
		s.joined.Wait()
	})
	return s, server.URL
}

func problem(w http.ResponseWriter, status int, detail string) {
	problemOf(w, "about:blank", status, detail)
}

func problemOf(w http.ResponseWriter, kind string, status int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"type":%q,"title":%q,"status":%d,"detail":%q,"message":%q}`, kind, http.StatusText(status), status, detail, detail)
}

func (s *fake) buy(w http.ResponseWriter, r *http.Request) {
	var in struct{ Email, Product string }
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&in); err != nil || !strings.Contains(in.Email, "@") || r.Header.Get("Content-Type") != "application/json" {
		problem(w, 400, "email: not an address")
		return
	}
	if in.Product != "" && in.Product != "tshirt" {
		problem(w, 404, "unknown product")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.posts++
	if s.faults.reject && s.posts == faulty {
		problem(w, 400, "email: not today")
		return
	}
	if s.faults.away != "" && s.posts == faulty {
		problemOf(w, s.faults.away, 503, "not now")
		return
	}
	if s.faults.opens && s.posts == faulty {
		s.product.State = "open"
	}
	if s.product.State == "paused" {
		problem(w, 409, "paused")
		return
	}
	for _, o := range s.orders {
		if s.faults.limit && o.Email == in.Email {
			problemOf(w, "urn:firstcome:limit-reached", 409, "one each")
			return
		}
	}
	shut := int64(0)
	if s.faults.undersell {
		shut = 1
	}
	keepOpen := s.faults.oversell && s.product.Available == 0 || s.faults.acceptLate
	if s.product.Available <= shut && !keepOpen {
		problem(w, 409, "sold out")
		return
	}
	id, _ := uuid.NewV7()
	o := &fakeOrder{ID: id.String(), Product: "tshirt", Email: in.Email, Quantity: 1, Status: "pending", Message: "Your order is in the queue"}
	s.orders[o.ID] = o
	s.line = append(s.line, o)
	s.product.Waiting++
	s.taken++
	body, _ := json.Marshal(map[string]any{"message": o.Message, "order": o})
	s.tell(o)
	if s.taken%2 == 0 && !s.faults.slow {
		s.decideAll()
	}
	if s.faults.hangUp && s.taken == faulty {
		for _, all := range s.sockets {
			for _, c := range all {
				c.Close()
			}
		}
	}
	if s.faults.reset && s.taken == faulty {
		s.decideAll()
		conn, _, _ := http.NewResponseController(w).Hijack()
		conn.Close()
		return
	}
	w.Header().Set("Location", "/orders/"+o.ID)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(202)
	w.Write(body)
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *fake) work() {
	for {
		select {
		case <-s.wake:
			s.mu.Lock()
			if !s.faults.slow {
				s.decideAll()
			}
			s.mu.Unlock()
		case <-s.stop:
			return
		}
	}
}

func (s *fake) decideAll() {
	for _, o := range s.line {
		s.decided++
		strikes := s.decided == faulty
		if strikes && s.faults.lose {
			continue
		}
		s.decide(o, strikes)
	}
	s.line = s.line[:0]
}

func (s *fake) decide(o *fakeOrder, strikes bool) {
	f := s.faults
	p := &s.product
	p.Waiting--
	s.places++
	if strikes && f.skipPlace {
		s.places++
	}
	o.Place, o.Rev = s.places, 1
	if strikes && f.duplicatePlace {
		o.Place--
		s.places--
	}
	if f.swapPlaces { // 5 and 6 change places
		switch s.decided {
		case faulty:
			o.Place++
		case faulty + 1:
			o.Place--
		}
	}
	switch {
	case strikes && f.acceptLate:
		o.Status, o.Message = "sold_out", "Sorry, we are out of stock"
	case p.Available > 0 || f.oversell && p.Available == 0:
		o.Status, o.Message = "accepted", "Your order has been approved"
		p.Available--
		p.Sold++
	default:
		o.Status, o.Message = "sold_out", "Sorry, we are out of stock"
	}
	if p.Available == 0 {
		p.State = "sold_out"
	}
	if strikes && f.miscount {
		p.Sold--
		p.Available++
	}
	if !strikes || !f.mute {
		s.tell(o)
	}
	if strikes && (f.change || f.changeLive) {
		o.Status = "sold_out"
		if f.changeLive {
			s.tell(o)
		}
	}
}

func (s *fake) tell(o *fakeOrder) {
	frame, _ := json.Marshal(map[string]any{"type": "order", "order": o})
	line := fmt.Appendf(nil, `{"type":"line","product":"tshirt","ahead":%d,"decided":%d,"available":%d}`, s.product.Waiting, s.decided, s.product.Available)
	for _, c := range s.sockets[o.Email] {
		if c.WriteMessage(websocket.TextMessage, line) == nil {
			c.WriteMessage(websocket.TextMessage, frame)
		}
	}
}

func (s *fake) order(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.orders[r.PathValue("id")]
	if o == nil || o.Email != r.URL.Query().Get("email") || s.faults.forget && o.Place == faulty {
		problem(w, 404, "no such order")
		return
	}
	json.NewEncoder(w).Encode(o)
}

func (s *fake) list(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	json.NewEncoder(w).Encode(map[string]any{"products": []product{s.product}})
}

func (s *fake) one(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.PathValue("id") != s.product.ID {
		problem(w, 404, "unknown product")
		return
	}
	json.NewEncoder(w).Encode(s.product)
	if s.faults.slow {
		s.decideAll()
	}
}

func (s *fake) socket(w http.ResponseWriter, r *http.Request) {
	email := r.URL.Query().Get("email")
	if email == "" {
		problem(w, 400, "email: missing")
		return
	}
	c, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
	if err != nil {
		return
	}
	s.joined.Add(1)
	defer s.joined.Done()
	s.mu.Lock()
	s.opened++
	c.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, `{"type":"hello","email":%q,"server_time":"2025-01-01T00:00:00Z"}`, email))
	for _, o := range s.orders {
		if o.Email == email {
			frame, _ := json.Marshal(map[string]any{"type": "order", "order": o})
			c.WriteMessage(websocket.TextMessage, frame)
		}
	}
	s.sockets[email] = append(s.sockets[email], c)
	s.mu.Unlock()
	for {
		if _, _, err := c.ReadMessage(); err != nil {
			break
		}
	}
	c.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	left := s.sockets[email][:0]
	for _, other := range s.sockets[email] {
		if other != c {
			left = append(left, other)
		}
	}
	s.sockets[email] = left
}

func (s *fake) hangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, all := range s.sockets {
		for _, c := range all {
			c.Close()
		}
	}
}

// bounded is a context that no test outlives.
func bounded(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}
