package web

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/fasthttp/websocket"

	"firstcome/internal/sale"
)

// screen is a buyer's end of a socket.
type screen struct {
	t  testing.TB
	ws *websocket.Conn
}

type receivedFrame struct {
	Type        string
	Email       string
	ServerTime  string `json:"server_time"`
	Order       struct{ ID, Status, Email string }
	Product     json.RawMessage
	Ahead       uint64
	Decided     uint64
	Available   int64
	closedBy    int
	receivedRaw string
}

func watch(t testing.TB, addr, email string) *screen {
	t.Helper()
	s := dial(t, addr, email)
	if f := s.next(); f.Type != "hello" || f.Email != strings.ToLower(email) {
		t.Fatalf("first frame %+v", f)
	} else if _, err := time.Parse(time.RFC3339, f.ServerTime); err != nil {
		t.Fatal(err)
	}
	return s
}

// attend is watch, until the socket has sent what the book knew at its opening, which
// must be nothing. What the buyer orders after this is sent as it is broadcast.
func attend(t testing.TB, s *Server, addr string, email sale.Email) *screen {
	t.Helper()
	tab := watch(t, addr, string(email))
	at := sale.Instant(time.Now())
	mark := sale.Status{Order: sale.Order{ID: sale.KeyedID(email, "tshirt", "mark"), Email: email, Quantity: 1, PlacedAt: at},
		Product: "tshirt", Outcome: sale.SoldOut, Place: 1, DecidedAt: at}
	broadcast(s, mark)
	tab.wantOrder(mark.ID, "sold_out")
	return tab
}

func dial(t testing.TB, addr, email string) *screen { return dialAt(t, addr, "?email="+email) }

func dialAt(t testing.TB, addr, query string) *screen {
	t.Helper()
	ws, res, err := websocket.DefaultDialer.Dial("ws://"+addr+"/ws"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	t.Cleanup(func() { ws.Close() })
	return &screen{t, ws}
}

// next waits for the next frame of hello, orders and lines.
func (s *screen) next() receivedFrame {
	s.t.Helper()
	for {
		if f := s.any(); f.Type != "product" && f.Type != "beat" {
			return f
		}
	}
}

// product waits for the next product frame, and skips beats and lines.
func (s *screen) product() receivedProduct {
	s.t.Helper()
	for {
		switch f := s.any(); f.Type {
		case "product":
			var p receivedProduct
			if err := json.Unmarshal(f.Product, &p); err != nil {
				s.t.Fatal(err)
			}
			if _, err := time.Parse(time.RFC3339, f.ServerTime); err != nil {
				s.t.Fatal(err)
			}
			p.raw = string(f.Product)
			return p
		case "beat", "line":
		default:
			s.t.Fatalf("%s %d, want a product", f.receivedRaw, f.closedBy)
		}
	}
}

type receivedProduct struct {
	ID, Title, Price, Image, State string
	Available, Sold, Supplied      int64
	Waiting                        uint64
	LimitPerBuyer                  *int64     `json:"limit_per_buyer"`
	OpensAt                        *time.Time `json:"opens_at"`
	ClosesAt                       *time.Time `json:"closes_at"`
	raw                            string
}

// any waits for the next frame; the close of the socket is one with closedBy.
func (s *screen) any() receivedFrame {
	s.t.Helper()
	if err := s.ws.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		s.t.Fatal(err)
	}
	_, b, err := s.ws.ReadMessage()
	if closed := (*websocket.CloseError)(nil); errors.As(err, &closed) {
		return receivedFrame{closedBy: closed.Code}
	}
	if err != nil {
		s.t.Fatal(err)
	}
	var f receivedFrame
	if err := json.Unmarshal(b, &f); err != nil {
		s.t.Fatalf("%s: %v", b, err)
	}
	f.receivedRaw = string(b)
	return f
}

// order waits for the next order frame, and skips line frames.
func (s *screen) order() receivedFrame {
	s.t.Helper()
	for {
		if f := s.next(); f.Type != "line" {
			return f
		}
	}
}

func (s *screen) wantOrder(id sale.OrderID, status string) {
	s.t.Helper()
	if f := s.order(); f.Type != "order" || f.Order.ID != id.String() || f.Order.Status != status {
		s.t.Fatalf("frame %s, want %s %s", f.receivedRaw, id, status)
	}
}
