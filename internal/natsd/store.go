package natsd

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

const (
	// storeCheck is how often the store's health is asked for.
	storeCheck = time.Second
	// brokenAfter is how long the store must have failed until Broken says so.
	brokenAfter = 10 * time.Second
)

// Broken gives one error, with the reason, once the store could not be written to for
// 10 s. Such an error stays with a stream until the server is started again, also when
// the disk is well by then. No answer to a publisher tells of it: the first write that
// fails gets none, and later ones that expect a sequence are told that it is another.
func (s *Server) Broken() <-chan error { return s.broken }

// watchStore ends with the server, or when the store is broken. A store whose disk hangs
// holds it up, and nothing else.
func (s *Server) watchStore(log *serverLog) {
	tick := time.NewTicker(storeCheck)
	defer tick.Stop()
	for since := (time.Time{}); ; {
		select {
		case <-s.done:
			return
		case <-tick.C:
		}
		switch err := s.storeError(log); {
		case err == nil:
			since = time.Time{}
		case since.IsZero():
			since = time.Now()
		case time.Since(since) >= brokenAfter:
			s.broken <- err
			return
		}
	}
}

// storeError is why the store cannot be written to, nil if it can. Full disks and refused
// writes make the server switch JetStream off, in a cluster at once.
func (s *Server) storeError(log *serverLog) error {
	if !s.nats.JetStreamEnabled() {
		return fmt.Errorf("JetStream has switched itself off: %s", log.lastError())
	}
	for _, e := range s.nats.Healthz(&server.HealthzOptions{Details: true}).Errors {
		if strings.Contains(e.Error, "write error") {
			return errors.New(e.Error)
		}
	}
	return nil
}
