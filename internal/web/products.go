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
	for i, stock := range s.shop.Products() {
		if i > 0 {
			b = append(b, ',')
		}
		b = s.appendProduct(b, &stock, now)
	}
	return answer(c, append(b, "]}"...))
}

func (s *Server) showProduct(c *fiber.Ctx) error {
	id, err := sale.ParseProductID(c.Params("id"))
	if err != nil {
		return errNoProduct
	}
	stock, ok := s.shop.Product(id)
	if !ok {
		return errNoProduct
	}
	return answer(c, s.appendProduct(nil, &stock, s.now()))
}

func (s *Server) appendProduct(b []byte, stock *sale.Stock, now time.Time) []byte {
	b = append(b, `{"id":"`...)
	b = append(b, stock.Product...)
	b = append(b, `","available":`...)
	b = strconv.AppendInt(b, stock.Available, 10)
	b = append(b, `,"sold":`...)
	b = strconv.AppendInt(b, stock.Sold, 10)
	b = append(b, `,"supplied":`...)
	b = strconv.AppendInt(b, stock.Supplied, 10)
	b = append(b, `,"waiting":`...)
	b = strconv.AppendUint(b, s.book.Waiting(stock.Product), 10)
	b = append(b, `,"state":"`...)
	b = append(b, stock.State(now)...)
	return append(b, `"}`...)
}
