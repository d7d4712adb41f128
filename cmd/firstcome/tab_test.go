package main

import (
	"encoding/json"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/fasthttp/websocket"
)

// tab is one open WebSocket of a buyer, and everything that it was told.
type tab struct {
	t     testing.TB
	email string
	ws    *websocket.Conn
	read  sync.WaitGroup

	mu     sync.Mutex
	more   *sync.Cond
	told   []status // order frames, in order
	live   bool     // hello came
	ended  error    // why reading ended
	closed bool     // by us
}

// follow opens a socket and waits for its hello.
func (s *shop) follow(email string) *tab {
	s.t.Helper()
	dialer := websocket.Dialer{HandshakeTimeout: patience}
	ws, res, err := dialer.Dial("ws://"+s.http+"/ws?email="+url.QueryEscape(email), nil)
	if err != nil {
		s.t.Fatalf("socket of %s: %v", email, err)
	}
	res.Body.Close()
	k := &tab{t: s.t, email: email, ws: ws}
	k.more = sync.NewCond(&k.mu)
	k.read.Go(k.listen)
	s.t.Cleanup(k.close)
	k.until("hello", func() bool { return k.live })
	return k
}

func (k *tab) close() {
	k.mu.Lock()
	k.closed = true
	k.mu.Unlock()
	k.ws.Close()
	k.read.Wait()
}

func (k *tab) listen() {
	for {
		var frame struct {
			Type, Email string
			Order       status
		}
		_, text, err := k.ws.ReadMessage()
		if err == nil {
			err = json.Unmarshal(text, &frame)
		}
		k.mu.Lock()
		switch {
		case err != nil:
			k.ended = err
		case frame.Type == "hello":
			k.live = true
			if frame.Email != k.email {
				k.t.Errorf("socket of %s was greeted as %s", k.email, frame.Email)
			}
		case frame.Type == "order":
			if frame.Order.Email != k.email { // P7
				k.t.Errorf("socket of %s was told %s", k.email, text)
			}
			k.told = append(k.told, frame.Order)
		}
		k.more.Broadcast()
		k.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// until waits for done, which is called with the lock held.
func (k *tab) until(what string, done func() bool) {
	k.t.Helper()
	late := time.AfterFunc(patience, func() { k.ws.Close() })
	defer late.Stop()
	k.mu.Lock()
	defer k.mu.Unlock()
	for !done() {
		if k.ended != nil {
			k.t.Fatalf("socket of %s ended before %s: %v, was told %v", k.email, what, k.ended, k.told)
		}
		k.more.Wait()
	}
}

// outcome waits for the order's final status.
func (k *tab) outcome(id string) status {
	k.t.Helper()
	return k.hear(id, func(o status) bool { return o.Status != "pending" })
}

// hear waits for a frame of the order.
func (k *tab) hear(id string, as func(status) bool) (found status) {
	k.t.Helper()
	k.until("the outcome of "+id, func() bool {
		for _, o := range k.told {
			if o.ID == id && as(o) {
				found = o
				return true
			}
		}
		return false
	})
	return found
}

// history is all that was told of an order, in order.
func (k *tab) history(id string) (all []status) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, o := range k.told {
		if id == "" || o.ID == id {
			all = append(all, o)
		}
	}
	return all
}

// farewell waits for the end and returns the close code, 0 if there was none.
func (k *tab) farewell() int {
	k.t.Helper()
	late := time.AfterFunc(patience, func() { k.ws.Close() })
	defer late.Stop()
	k.read.Wait()
	if e, ok := k.ended.(*websocket.CloseError); ok {
		return e.Code
	}
	return 0
}
