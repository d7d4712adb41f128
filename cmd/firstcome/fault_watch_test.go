package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fasthttp/websocket"
)

// window is a buyer's page that stays open all the time: it comes back, at any
// instance, whenever its socket is lost.
type window struct {
	w     *crowd
	email string

	mu     sync.Mutex
	told   map[string]status // the newest of each order
	ws     *websocket.Conn
	closed bool
	lost   int // sockets that ended
}

// openWindows opens one for every watcher of the crowd.
func openWindows(t *testing.T, w *crowd) []*window {
	var open sync.WaitGroup
	all := make([]*window, watchers)
	for i := range all {
		k := &window{w: w, email: watcher(uint64(i)), told: map[string]status{}}
		all[i] = k
		open.Go(func() { k.stay(rand.New(rand.NewPCG(w.seed, 1<<32+uint64(i)))) })
	}
	t.Cleanup(func() {
		for _, k := range all {
			k.close()
		}
		open.Wait()
	})
	return all
}

func (k *window) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
	if k.ws != nil {
		k.ws.Close()
	}
}

// use tells whether the window is still open, and what its socket is.
func (k *window) use(ws *websocket.Conn) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ws = ws
	return !k.closed
}

func (k *window) stay(random *rand.Rand) {
	dialer := websocket.Dialer{HandshakeTimeout: 3 * time.Second}
	for k.use(nil) {
		s := k.w.c.shops[random.IntN(3)].Load()
		ws, res, err := dialer.Dial("ws://"+s.http+"/ws?email="+url.QueryEscape(k.email), nil)
		if err != nil {
			if k.w.strict.Load() && !errors.Is(err, syscall.ECONNREFUSED) {
				k.w.t.Errorf("a socket was not opened: %v", err)
			}
			time.Sleep(50 * time.Millisecond)
			continue
		}
		res.Body.Close()
		if !k.use(ws) {
			ws.Close()
			return
		}
		err = k.listen(ws)
		ws.Close()
		if k.use(nil) {
			k.ended(err)
		}
	}
}

// ended judges how a socket ended that the buyer did not close.
func (k *window) ended(err error) {
	k.mu.Lock()
	k.lost++
	k.mu.Unlock()
	var bye *websocket.CloseError
	if k.w.strict.Load() && (!errors.As(err, &bye) || bye.Code != websocket.CloseGoingAway) {
		k.w.t.Errorf("a socket was lost without 1001: %v", err)
	}
}

func (k *window) listen(ws *websocket.Conn) error {
	for {
		var frame struct {
			Type  string
			Order status
		}
		_, text, err := ws.ReadMessage()
		if err != nil {
			return err
		}
		if err := json.Unmarshal(text, &frame); err != nil {
			return fmt.Errorf("frame %s: %w", text, err)
		}
		if frame.Type == "order" {
			k.tell(frame.Order)
		}
	}
}

// tell takes an order's status: the highest rev is kept, as a page does, and no
// outcome ever changes (P4).
func (k *window) tell(o status) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if o.Email != k.email { // P7
		k.w.t.Errorf("the socket of %s was told of %s", k.email, o.Email)
	}
	before, known := k.told[o.ID]
	if known && before.Status != "pending" && o.Status != "pending" && before != o {
		k.w.t.Errorf("the outcome %+v became %+v", before, o)
	}
	if !known || o.Rev > before.Rev {
		k.told[o.ID] = o
	}
}

// newest is the last that was told of an order.
func (k *window) newest(id string) status {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.told[id]
}
