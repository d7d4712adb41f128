package audit

import "firstcome/internal/sale"

// Summary is what a replay counted in a product's history, as the links say it.
type Summary struct {
	Product sale.ProductID
	Links   uint64 // which is also the number of the newest one

	Orders       uint64 // that got their first outcome
	Accepted     uint64
	SoldOut      uint64
	LimitReached uint64
	Duplicates   uint64 // lines of orders that had their outcome
	UnitsSold    int64  // in accepted orders

	DeskDone    uint64 // desk lines that had an effect
	DeskRefused uint64

	Available int64         // units, by the newest link
	Supplied  int64         // units, by the newest link
	Queue     sale.Position // settled by the newest link
	Revision  sale.Seq      // of the newest link

	Notes []string // what is worth telling and breaks nothing
}

func (s *Summary) count(seq sale.Seq, link *sale.Link) {
	s.Links, s.Queue, s.Revision = link.N, link.Queue, seq
	s.Available, s.Supplied = link.Available, link.Supplied
	for i := range link.Orders {
		o := &link.Orders[i]
		switch o.Outcome {
		case sale.Accepted:
			s.Accepted++
			s.UnitsSold += int64(o.Quantity)
		case sale.SoldOut:
			s.SoldOut++
		case sale.LimitReached:
			s.LimitReached++
		case sale.Duplicate:
			s.Duplicates++
		}
	}
	s.Orders = s.Accepted + s.SoldOut + s.LimitReached
	for i := range link.Desk {
		if link.Desk[i].Refused == "" {
			s.DeskDone++
		} else {
			s.DeskRefused++
		}
	}
}
