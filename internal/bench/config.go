package bench

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// Mode names one way of putting load on the target; see the package comment.
type Mode string

// The modes.
const (
	Closed  Mode = "closed"
	Open    Mode = "open"
	Flood   Mode = "flood"
	Refused Mode = "refused"
)

// Bounds of one run. An order's number has nine digits in its buyer's address,
// and every checked order is kept in memory (about 48 bytes).
const (
	maxOrders        = 999_999_999
	maxCheckedOrders = 10_000_000
	maxBuyers        = 20_000
	maxIdle          = 100_000
)

// Config says what to measure. The zero value of every field but URLs is a
// usable default.
type Config struct {
	URLs     []string      // instances, http://host:port; buyers are spread over them
	Product  string        // empty: the only product there is
	Buyers   int           // connections, and sockets in the closed and open loop; default 64
	Orders   int64         // orders in all; default 10,000 unless Duration is set
	Duration time.Duration // how long new orders are sent; default 5 s for flood and refused without Orders

	Rate           float64 // orders per second; above zero chooses the open loop
	Flood          bool    // chooses the flood
	ExpectRefusals bool    // chooses refused; an open sale is an error, so that nothing is bought

	Idle   int  // further sockets held open while the target is measured
	Check  bool // verify the promise from outside; a broken one makes Run fail with ErrBroken
	Shared bool // others order meanwhile: Check makes no claim that this would falsify
	JSON   bool // write one JSON object instead of the table

	// Baseline is the command that runs ServeBaseline in a process of its own;
	// empty: no baseline.
	Baseline []string

	Timeout  time.Duration // for an answer, and for an outcome after it; default 10 s
	Limit    time.Duration // for the whole run; default 10 min
	Progress io.Writer     // a terminal to draw a progress bar on; nil: silent
}

// Mode is the mode that the fields choose.
func (c Config) Mode() Mode {
	switch {
	case c.Flood:
		return Flood
	case c.ExpectRefusals:
		return Refused
	case c.Rate > 0:
		return Open
	default:
		return Closed
	}
}

// ErrConfig is wrapped when a Config asks for what cannot be run.
var ErrConfig = errors.New("bench: this cannot be run")

var productID = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)

// complete fills in the defaults and refuses what cannot be run.
func (c Config) complete() (Config, error) {
	chosen := 0
	for _, on := range []bool{c.Flood, c.ExpectRefusals, c.Rate != 0} {
		if on {
			chosen++
		}
	}
	if c.Buyers == 0 {
		c.Buyers = 64
	}
	if c.Orders == 0 && c.Duration == 0 {
		if c.Flood || c.ExpectRefusals {
			c.Duration = 5 * time.Second
		} else {
			c.Orders = 10_000
		}
	}
	if c.Timeout == 0 {
		c.Timeout = 10 * time.Second
	}
	if c.Limit == 0 {
		c.Limit = 10 * time.Minute
	}
	switch {
	case chosen > 1:
		return c, errors.New("choose one of a rate, a flood and refusals")
	case len(c.URLs) == 0:
		return c, errors.New("no URL to measure")
	case c.Rate < 0 || c.Rate > 1e7:
		return c, fmt.Errorf("rate %g: must be above 0 and at most 10,000,000 orders/s", c.Rate)
	case c.Buyers < 1 || c.Buyers > maxBuyers:
		return c, fmt.Errorf("%d buyers: must be 1 to %d", c.Buyers, maxBuyers)
	case c.Orders < 0 || c.Orders > maxOrders:
		return c, fmt.Errorf("%d orders: must be 1 to %d", c.Orders, maxOrders)
	case c.Check && c.Orders > maxCheckedOrders:
		return c, fmt.Errorf("%d orders: at most %d can be checked in one run", c.Orders, maxCheckedOrders)
	case c.Idle < 0 || c.Idle > maxIdle:
		return c, fmt.Errorf("%d idle sockets: must be 0 to %d", c.Idle, maxIdle)
	case c.Duration < 0 || c.Timeout < 0 || c.Limit < 0:
		return c, errors.New("a duration is negative")
	case c.Duration >= c.Limit:
		return c, fmt.Errorf("a duration of %s does not fit into the run's limit of %s", c.Duration, c.Limit)
	case c.Product != "" && !productID.MatchString(c.Product):
		return c, fmt.Errorf("%q is not a product id", c.Product)
	}
	if c.Orders == 0 {
		c.Orders = maxOrders
		if c.Check {
			c.Orders = maxCheckedOrders
		}
	}
	return c, nil
}

// instance is one server under test.
type instance struct {
	url  string // http://host:port, for messages
	addr string // host:port
}

func parseInstances(urls []string) ([]instance, error) {
	var all []instance
	for _, raw := range urls {
		u, err := url.Parse(strings.TrimSpace(raw))
		if err != nil {
			return nil, fmt.Errorf("url %q: %w", raw, err)
		}
		if u.Scheme != "http" || u.Host == "" {
			return nil, fmt.Errorf("url %q: must be http://host:port (the bench does not speak TLS: measure behind the proxy)", raw)
		}
		if strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil {
			return nil, fmt.Errorf("url %q: must be http://host:port and nothing else", raw)
		}
		addr := u.Host
		if u.Port() == "" {
			addr += ":80"
		}
		all = append(all, instance{url: "http://" + u.Host, addr: addr})
	}
	return all, nil
}
