package web

import (
	"encoding/json"
	"log/slog"
	"runtime/debug"
	"slices"
	"strconv"

	"github.com/gofiber/contrib/websocket"
	"github.com/gofiber/fiber/v2"
)

// problem is an answer that is not a success, in the form of RFC 9457. Most are
// rendered once, at the start; because makes one with another detail.
type problem struct {
	status int
	kind   string // the end of its type URI
	title  string
	detail string
	retry  int // seconds for Retry-After, 0: none
	body   []byte
}

// The error table: every answer that is not a success.
var (
	errMalformed    = newProblem(400, "malformed-request", "The request cannot be read", "The request is not HTTP as RFC 9112 describes it.", 0)
	errBody         = newProblem(400, "malformed-body", "The body cannot be read", "The body is not a JSON object.", 0)
	errField        = newProblem(400, "invalid-field", "A field is not valid", "A field is not valid.", 0)
	errOrigin       = newProblem(403, "foreign-origin", "Origin not allowed", "Pages of this origin may not do that.", 0)
	errNoPath       = newProblem(404, "not-found", "Not found", "There is nothing under this path.", 0)
	errNoProduct    = newProblem(404, "unknown-product", "Unknown product", "No product with this id is on sale.", 0)
	errNoOrder      = newProblem(404, "unknown-order", "Unknown order", "This buyer has no order with this id.", 0)
	errMethod       = newProblem(405, "method-not-allowed", "Method not allowed", "This path does not offer that method.", 0)
	errSlow         = newProblem(408, "request-timeout", "The request took too long", "The request did not arrive in time.", 0)
	errSoldOut      = newProblem(409, "sold-out", "Sold out", "The product is sold out.", 0)
	errPaused       = newProblem(409, "paused", "Paused", "The sale of the product is paused.", 5)
	errNotOpen      = newProblem(409, "not-open", "Not open yet", "The sale of the product has not begun yet.", 0)
	errLimit        = newProblem(409, "limit-reached", "Limit reached", "This buyer has as many units as one buyer may have.", 0)
	errNotEnough    = newProblem(409, "not-enough", "Not enough left", "Fewer units are left than the order asks for.", 0)
	errClosed       = newProblem(409, "closed", "Closed", "The sale of the product is over.", 0)
	errTooLarge     = newProblem(413, "body-too-large", "Body too large", "The body is larger than 4096 bytes.", 0)
	errMediaType    = newProblem(415, "unsupported-media-type", "Unsupported media type", "The body must be application/json or application/x-www-form-urlencoded, without a content encoding.", 0)
	errMisdirected  = newProblem(421, "misdirected", "Misdirected request", "This server is asked under a name that is none of its own.", 0)
	errKeyReused    = newProblem(422, "idempotency-key-reused", "Idempotency-Key reused", "The Idempotency-Key was used before for an order with another quantity.", 0)
	errNoUpgrade    = newProblem(426, "upgrade-required", "Upgrade required", "This path speaks WebSocket (RFC 6455, version 13).", 0)
	errWaiting      = newProblem(429, "too-many-waiting", "Too many orders are waiting", "This buyer has as many undecided orders as one buyer may have.", 1)
	errTheirSockets = newProblem(429, "too-many-sockets", "Too many sockets", "This address has as many sockets open as it may.", 5)
	errRate         = newProblem(429, "too-many-orders", "Too many orders", "Too many orders in a short time.", 1)
	errHeaders      = newProblem(431, "headers-too-large", "Headers too large", "The request line and headers are too large.", 0)
	errInternal     = newProblem(500, "internal-error", "Internal error", "Something went wrong on our side.", 0)
	errQueueFull    = newProblem(503, "queue-full", "The queue is full", "Too many orders are waiting. Please try again.", 1)
	errBookFull     = newProblem(503, "shop-full", "The shop is full", "The shop holds as many orders as it can.", 60)
	errAway         = newProblem(503, "unavailable", "Temporarily unavailable", "The queue cannot be reached right now. With the same Idempotency-Key it is safe to try again.", 1)
	errUnsure       = errAway.because(errAway.detail) // the same answer, but the order may have been stored
	errStuck        = newProblem(503, "stuck", "Not deciding", "Orders of this product are not being decided right now. Please try again.", 5)
	errRefusing     = newProblem(503, "shutting-down", "Shutting down", "This instance takes no more orders. Please try again.", 1)
	errManySockets  = newProblem(503, "too-many-sockets", "Too many sockets", "This instance has as many sockets open as it may.", 5)
)

func newProblem(status int, kind, title, detail string, retry int) *problem {
	p := &problem{status: status, kind: kind, title: title, detail: detail, retry: retry}
	body, err := json.Marshal(struct {
		Type    string `json:"type"`
		Title   string `json:"title"`
		Status  int    `json:"status"`
		Detail  string `json:"detail"`
		Message string `json:"message"`
	}{"urn:firstcome:" + kind, title, status, detail, detail})
	if err != nil {
		panic("web: a problem that cannot be encoded: " + err.Error()) // strings and a number can always be
	}
	p.body = body
	return p
}

// Error is the detail.
func (p *problem) Error() string { return p.detail }

// because is the problem with another detail.
func (p *problem) because(detail string) *problem {
	return newProblem(p.status, p.kind, p.title, detail, p.retry)
}

// after is the problem with another Retry-After, in seconds.
func (p *problem) after(seconds int) *problem {
	q := *p
	q.retry = seconds
	return &q
}

// with is the problem with another member, whose value is JSON.
func (p *problem) with(name, value string) *problem {
	q := *p
	q.body = slices.Concat(p.body[:len(p.body)-1], []byte(`,"`+name+`":`+value+`}`))
	return &q
}

// guard runs before every route: it applies the origin rules, turns errors into
// problems, and keeps a panic from ending the process or showing its text.
func (s *Server) guard(c *fiber.Ctx) (err error) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("a request panicked", slog.String("method", c.Method()), slog.String("route", c.Route().Path),
				slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
			err = s.fail(c, errInternal)
		}
	}()
	if s.refusing.Load() && !websocket.IsWebSocketUpgrade(c) {
		c.Context().SetConnectionClose() // the next request goes to an instance that stays
	}
	if p := s.misdirected(c); p != nil {
		return s.fail(c, p)
	}
	if !s.admitOrigin(c) && c.Method() == fiber.MethodPost {
		return s.fail(c, s.foreign(c)) // a form post needs no preflight
	}
	if err := c.Next(); err != nil {
		return s.explain(c, err)
	}
	return nil
}

// explain answers with the problem for err. Problems are never wrapped.
func (s *Server) explain(c *fiber.Ctx, err error) error {
	var p *problem
	switch e := err.(type) {
	case *problem:
		p = e
	case *fiber.Error:
		p = problemOf(e.Code)
	}
	if p == nil {
		s.log.Error("a request failed", slog.String("method", c.Method()), slog.String("route", c.Route().Path), slog.Any("err", err))
		p = errInternal
	}
	if p == errHeaders {
		p = s.tooLong
	}
	return s.fail(c, p)
}

// problemOf is the problem for a status that Fiber or fasthttp chose, or nil.
func problemOf(code int) *problem {
	switch code {
	case fiber.StatusBadRequest, fiber.StatusBadGateway: // Fiber says 502 for a broken connection
		return errMalformed
	case fiber.StatusNotFound:
		return errNoPath
	case fiber.StatusMethodNotAllowed:
		return errMethod
	case fiber.StatusRequestTimeout:
		return errSlow
	case fiber.StatusRequestEntityTooLarge:
		return errTooLarge
	case fiber.StatusUpgradeRequired:
		return errNoUpgrade
	case fiber.StatusRequestHeaderFieldsTooLarge:
		return errHeaders
	}
	return nil
}

// unreadable answers a request that fasthttp could not read to its end. It has not
// passed guard.
func (s *Server) unreadable(c *fiber.Ctx, err error) error {
	if conn, ok := c.Context().Conn().(*conn); ok {
		conn.unread.Store(true)
	}
	if !s.admitOrigin(c) && c.Method() == fiber.MethodPost {
		return s.fail(c, s.foreign(c)) // the origin is checked before the size
	}
	return s.explain(c, err)
}

const problemType = "application/problem+json"

// fail writes the problem as the answer. It always returns nil.
func (s *Server) fail(c *fiber.Ctx, p *problem) error {
	r := c.Response()
	r.SetStatusCode(p.status)
	r.Header.Set(fiber.HeaderCacheControl, "no-store")
	if p.retry > 0 {
		r.Header.Set(fiber.HeaderRetryAfter, strconv.Itoa(p.retry))
	}
	if p.status == fiber.StatusUpgradeRequired {
		r.Header.Set(fiber.HeaderUpgrade, "websocket")
		r.Header.Set(fiber.HeaderSecWebSocketVersion, "13")
	}
	if wantsHTML(c) {
		err := s.showProblem(c, p)
		if err == nil {
			return nil
		}
		s.log.Error("a problem could not be rendered", slog.Any("err", err))
	}
	r.Header.SetContentType(problemType)
	r.SetBody(p.body)
	return nil
}
