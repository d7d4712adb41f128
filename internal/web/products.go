package web

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	"github.com/gofiber/fiber/v2"

	"firstcome/internal/sale"
)

func (s *Server) listProducts(c *fiber.Ctx) error {
	now := s.now()
	b := []byte(`{"products":[`)
	for i, product := range s.products() {
		if i > 0 {
			b = append(b, ',')
		}
		b = s.appendProduct(b, &product, product.State(now), true)
	}
	b = append(b, `],"server_time":`...)
	return answer(c, append(appendTime(b, now), '}'))
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
	return answer(c, s.appendProduct(nil, &product, product.State(s.now()), true))
}

// products are all products, those that the configuration lists first, in its order.
func (s *Server) products() []sale.Product {
	products := s.book.Products()
	if len(s.listings.all) > 0 {
		slices.SortStableFunc(products, func(x, y sale.Product) int {
			return cmp.Compare(s.listings.rank(x.Product), s.listings.rank(y.Product))
		})
	}
	return products
}

// appendProduct appends the product as the API shows it, or without its texts.
func (s *Server) appendProduct(b []byte, p *sale.Product, state sale.State, texts bool) []byte {
	b = append(b, `{"id":"`...)
	b = append(b, p.Product...)
	b = append(b, '"')
	if one := s.listings.of[p.Product]; texts && one != nil {
		b = append(b, one.texts...)
	}
	b = append(b, `,"available":`...)
	b = strconv.AppendInt(b, p.Available, 10)
	b = append(b, `,"sold":`...)
	b = strconv.AppendInt(b, p.Sold, 10)
	b = append(b, `,"supplied":`...)
	b = strconv.AppendInt(b, p.Supplied, 10)
	b = append(b, `,"waiting":`...)
	b = strconv.AppendUint(b, p.Waiting, 10)
	b = append(b, `,"limit_per_buyer":`...)
	b = strconv.AppendInt(b, p.LimitPerBuyer, 10)
	if p.OpensAt != nil {
		b = appendTime(append(b, `,"opens_at":`...), *p.OpensAt)
	}
	if p.ClosesAt != nil {
		b = appendTime(append(b, `,"closes_at":`...), *p.ClosesAt)
	}
	b = append(b, `,"state":"`...)
	b = append(b, state...)
	return append(b, `"}`...)
}

// appendTime appends an instant as JSON.
func appendTime(b []byte, at time.Time) []byte {
	b = sale.Instant(at).AppendFormat(append(b, '"'), time.RFC3339Nano)
	return append(b, '"')
}
