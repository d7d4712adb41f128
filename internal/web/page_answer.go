package web

import (
	"net/url"

	"github.com/gofiber/fiber/v2"

	"firstcome/internal/sale"
)

// answerData is an answer that a person reads: to a form that was sent without JavaScript,
// or to a URL that is wrong.
type answerData struct {
	Base    string // as in pageData
	Title   string
	Text    string
	Order   *orderView
	Product string    // id, "" if it is not known
	Again   *sentForm // to be sent again; nil: that makes no sense, or could make another order
	Label   string    // of the button that sends it again
}

type orderView struct {
	ID, Product, Email string
	Quantity           int
	Place, Ahead       uint64
	HasAhead           bool
	NextURL            string
}

// sentForm is what a form sent. Sent again it is the same order, as it has a key (P10).
type sentForm struct{ Email, Product, Quantity, Key string }

const answerHTML = `<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <meta name="color-scheme" content="light dark">
  <meta name="robots" content="noindex">
  <title>{{.Title}} · firstcome</title>
  <link rel="icon" href="{{.Base}}page/icon.svg" type="image/svg+xml">
  <link rel="stylesheet" href="{{.Base}}page/style.css">
</head>
<body>
  <header class="top"><p class="brand">firstcome</p></header>
  <main>
    <section class="card answer"><div class="panel">
      <h1>{{.Title}}</h1>
      <p class="lead">{{.Text}}</p>
{{with .Order}}      <dl>
        <dt>Product</dt><dd>{{.Quantity}} × {{.Product}}</dd>
        <dt>Email</dt><dd>{{.Email}}</dd>
{{if .Place}}        <dt>Place</dt><dd>{{.Place}}</dd>
{{else if .HasAhead}}        <dt>Orders ahead of yours</dt><dd>{{.Ahead}}</dd>
{{end}}        <dt>Order</dt><dd>{{.ID}}</dd>
      </dl>
{{with .NextURL}}      <p><a href="{{.}}" rel="noreferrer">Continue</a></p>
{{end}}{{end}}{{with .Again}}      <form method="post" action="{{$.Base}}buy">
        <input type="hidden" name="email" value="{{.Email}}">
{{with .Product}}        <input type="hidden" name="product" value="{{.}}">
{{end}}{{with .Quantity}}        <input type="hidden" name="quantity" value="{{.}}">
{{end}}        <input type="hidden" name="key" value="{{.Key}}">
        <button class="buy" type="submit">{{$.Label}}</button>
      </form>
{{end}}      <p><a href="{{.Base}}{{with .Product}}?product={{.}}{{end}}">Back to the shop</a></p>
    </div></section>
  </main>
</body>
</html>
`

// nextURL is where an approved order goes on, "" if it goes nowhere.
func nextURL(address string, id sale.OrderID) string {
	u, err := url.Parse(address)
	if err != nil || address == "" {
		return ""
	}
	query := u.Query()
	query.Set("order", id.String())
	u.RawQuery = query.Encode()
	return u.String()
}

const localForm = "form" // key of the request's sentForm among the Locals

// remember keeps what a person's form sent, for the answer.
func remember(c *fiber.Ctx, f *fields, key string) {
	c.Locals(localForm, &sentForm{Email: f.email.text, Product: f.product.text, Quantity: f.quantity.text, Key: key})
}

// showStatus answers with the status of an order, for a person.
func (s *Server) showStatus(c *fiber.Ctx, status *sale.Status) error {
	product, _ := s.book.Product(status.Product)
	product.Product = status.Product
	view := s.view(&product, s.now())
	order := &orderView{ID: status.ID.String(), Product: view.Title, Email: string(status.Email), Quantity: status.Quantity, Place: status.Place}
	data := answerData{Base: base(c), Title: status.Outcome.Message(), Product: view.ID, Order: order}
	switch status.Outcome {
	case sale.Pending:
		data.Text = "Orders are decided strictly in line, one after the other. Look again in a moment: this makes no second order."
		order.Ahead, order.HasAhead = status.Turn-1, status.Turn > 0
		if w, ok := c.Locals(localForm).(*sentForm); ok && w.Key != "" {
			data.Again, data.Label = w, "Look again"
		} else {
			data.Text = "Orders are decided strictly in line, one after the other."
		}
	case sale.Accepted:
		data.Text = "It is yours."
		order.NextURL = nextURL(view.NextURL, status.ID)
	default:
		data.Text = "Nothing was taken from you, and nothing is owed."
	}
	c.Response().Header.Set(fiber.HeaderCacheControl, "no-store")
	return s.render(c, s.pages.answer, data)
}

// showProblem answers with a problem, for a person. What may succeed later can be sent
// again.
func (s *Server) showProblem(c *fiber.Ctx, p *problem) error {
	data := answerData{Base: base(c), Title: p.title, Text: p.detail}
	if w, ok := c.Locals(localForm).(*sentForm); ok {
		data.Product = w.Product
		if _, err := sale.ParseProductID(w.Product); err != nil {
			data.Product = ""
		}
		if passing := p.retry > 0 || p.status >= 500; passing && w.Key != "" {
			data.Again, data.Label = w, "Try again"
		}
	}
	return s.render(c, s.pages.answer, data)
}
