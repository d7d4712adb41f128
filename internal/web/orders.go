package web

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/gofiber/fiber/v2"

	"firstcome/internal/sale"
)

const maxListed = 100 // orders that GET /orders shows

// showOrder answers with one order. If the book does not hold it, the book catches up
// first, so an order that was answered 202 on any instance is never 404 (P6). An
// unknown order and another buyer's take the same way to the same bytes (P7).
func (s *Server) showOrder(c *fiber.Ctx) error {
	email, err := emailOf(c)
	if err != nil {
		return err
	}
	id, err := sale.ParseOrderID(c.Params("id"))
	if err != nil {
		return errNoOrder
	}
	status, known := s.book.Status(id, email)
	if !known {
		if err := s.catchUp(reachTime); err != nil {
			return errAway
		}
		status, known = s.book.Status(id, email)
	}
	if !known {
		return errNoOrder
	}
	return answerBuyer(c, status.AppendJSON(nil))
}

// listOrders answers with a buyer's newest orders. The book gets mayTime to catch up;
// after that, its orders are shown as they are.
func (s *Server) listOrders(c *fiber.Ctx) error {
	email, err := emailOf(c)
	if err != nil {
		return err
	}
	if err := s.catchUp(mayTime); err != nil {
		s.log.Debug("the book may be behind", "err", err)
	}
	b := []byte(`{"orders":[`)
	for i, status := range s.book.Newest(email, maxListed) {
		if i > 0 {
			b = append(b, ',')
		}
		b = status.AppendJSON(b)
	}
	return answerBuyer(c, append(b, "]}"...))
}

// emailOf reads a copy of the query's email, which must be there once.
func emailOf(c *fiber.Ctx) (sale.Email, error) {
	values := c.Context().QueryArgs().PeekMulti("email")
	switch len(values) {
	case 0:
		return "", errField.because("The query parameter email is missing.")
	case 1:
		email, err := sale.ParseEmail(string(values[0]))
		if err != nil {
			return "", errField.because("The query parameter email is " + err.Error() + "." + aboutPlus(string(values[0])))
		}
		return email, nil
	default:
		return "", errField.because("The query parameter email is given more than once.")
	}
}

// aboutPlus explains a space in an address of a query or a form, where a + is a space
// (URL standard, 5.1), to a client that did not encode it.
func aboutPlus(address string) string {
	if strings.Contains(address, " ") {
		return " A + in an address must be sent as %2B."
	}
	return ""
}

// answerBuyer answers with JSON about a buyer, or with 304 if the client has it already.
// Only the buyer's own cache may keep it.
func answerBuyer(c *fiber.Ctx, body []byte) error {
	h := &c.Response().Header
	h.Set(fiber.HeaderCacheControl, "private, no-cache")
	h.Set(fiber.HeaderXContentTypeOptions, "nosniff")
	h.SetCanonical(headerVary, varyBuyer)
	if unchanged(c, etagOf(body)) {
		return nil
	}
	h.SetContentType(fiber.MIMEApplicationJSON)
	c.Response().SetBodyRaw(body)
	return nil
}

// varyBuyer is what an answer about a buyer may hang on.
var varyBuyer = []byte("Origin, Authorization, Cookie, Accept")

// etagOf is a strong ETag (RFC 9110, 8.8.3), the same on every instance.
func etagOf(body []byte) string {
	sum := sha256.Sum256(body)
	return `"` + hex.EncodeToString(sum[:16]) + `"`
}

// answer answers 200 with JSON, which no cache may store.
func answer(c *fiber.Ctx, body []byte) error {
	r := c.Response()
	r.Header.SetContentType(fiber.MIMEApplicationJSON)
	r.Header.Set(fiber.HeaderCacheControl, "no-store")
	r.Header.Set(fiber.HeaderXContentTypeOptions, "nosniff")
	r.SetBodyRaw(body)
	return nil
}
