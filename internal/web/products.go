package web

import (
	"strconv"
	"time"

	"github.com/gofiber/fiber/v2"

	"firstcome/internal/sale"
)

func (s *Server) listProducts(c *fiber.Ctx) error {
	now := s.now()
	b := []byte(`{"products":[`)
	for i, product := range s.book.Products() {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendProduct(b, &product, now)
	}
	return answer(c, append(b, "]}"...))
}

func (s *Server) showProduct(c *fiber.Ctx) error {
	id, err := sale.ParseProductID(c.Params("id"))
	if err != nil {
		return errNoProduct
	}
	product, ok := s.book.Product(id)
	if !ok {
		return errNoProduct
	}
	return answer(c, appendProduct(nil, &product, s.now()))
}

// appendProduct appends the product as the API shows it.
func appendProduct(b []byte, p *sale.Product, now time.Time) []byte {
	b = append(b, `{"id":"`...)
	b = append(b, p.Product...)
	b = append(b, `","available":`...)
	b = strconv.AppendInt(b, p.Available, 10)
	b = append(b, `,"sold":`...)
	b = strconv.AppendInt(b, p.Sold, 10)
	b = append(b, `,"supplied":`...)
	b = strconv.AppendInt(b, p.Supplied, 10)
	b = append(b, `,"waiting":`...)
	b = strconv.AppendUint(b, p.Waiting, 10)
	b = append(b, `,"state":"`...)
	b = append(b, p.State(now)...)
	return append(b, `"}`...)
}
