package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// stateOpen is the state of a product whose orders are queued; in every other
// they are refused at the door.
const stateOpen = "open"

// product is what GET /products/{id} tells.
type product struct {
	ID        string `json:"id"`
	Available int64  `json:"available"`
	Sold      int64  `json:"sold"`
	Supplied  int64  `json:"supplied"`
	Waiting   int64  `json:"waiting"`
	State     string `json:"state"`
}

// shop asks the target about its products: rarely, hence with the ordinary
// client, and whichever instance answers first in the order given.
type shop struct {
	instances []instance
	client    *http.Client
}

func newShop(instances []instance) *shop {
	return &shop{instances, &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{}}}
}

func (s *shop) close() { s.client.CloseIdleConnections() }

// find returns the product that is to be bought: the named one, or the only one.
func (s *shop) find(ctx context.Context, id string) (product, error) {
	if id != "" {
		return s.product(ctx, id)
	}
	var list struct{ Products []product }
	if err := s.get(ctx, "/products", &list); err != nil {
		return product{}, err
	}
	switch len(list.Products) {
	case 0:
		return product{}, errors.New("GET /products: nothing is on sale")
	case 1:
		return list.Products[0], nil
	}
	return product{}, fmt.Errorf("GET /products: %d products are on sale, name one", len(list.Products))
}

func (s *shop) product(ctx context.Context, id string) (p product, err error) {
	err = s.get(ctx, "/products/"+id, &p)
	return p, err
}

func (s *shop) get(ctx context.Context, path string, into any) error {
	var failed error
	for _, at := range s.instances {
		err := s.ask(ctx, at.url+path, into)
		if err == nil {
			return nil
		}
		failed = errors.Join(failed, err)
		if ctx.Err() != nil {
			return failed
		}
	}
	return failed
}

func (s *shop) ask(ctx context.Context, url string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return err // names the method and the URL
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4<<20))
	switch {
	case err != nil:
		return fmt.Errorf("GET %s: %w", url, err)
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("GET %s: answer %d: %.200s", url, resp.StatusCode, body)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("GET %s: %w", url, err)
	}
	return nil
}

// drained waits until nothing waits in the product's line and the last order of
// every connection has its outcome; the queue is strict (P2), so then all have.
// It returns when that was first seen. A backlog that stands still for patience
// is an error.
func (s *shop) drained(ctx context.Context, id string, buyers []*buyer, shared bool, patience time.Duration) (time.Time, error) {
	waiting, moved := int64(-1), time.Now()
	for {
		p, err := s.product(ctx, id)
		now := time.Now()
		if err == nil && (p.Waiting == 0 || shared) && allFinal(ctx, buyers) {
			return now, nil
		}
		if err == nil && p.Waiting != waiting {
			waiting, moved = p.Waiting, now
		}
		if ctx.Err() != nil {
			return now, context.Cause(ctx)
		}
		if now.Sub(moved) > patience {
			return now, errors.Join(fmt.Errorf("the backlog stood still for %s with %d orders waiting", patience, waiting), err)
		}
		pause(ctx, 5*time.Millisecond)
	}
}

func allFinal(ctx context.Context, buyers []*buyer) bool {
	for _, b := range buyers {
		if b.last.answered == 0 {
			continue // none of its orders was taken
		}
		s, err := b.status(ctx, b.last)
		if err != nil || !s.outcome.final() {
			return false
		}
	}
	return true
}
