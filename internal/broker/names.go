package broker

import (
	"strconv"
	"strings"

	"firstcome/internal/sale"
)

// Streams, the bucket and the prefixes of subjects.
const (
	ordersStream = "ORDERS"
	ledgerStream = "LEDGER"
	deadStream   = "DEAD"
	stockBucket  = "stock"
	stockStream  = "KV_" + stockBucket
	stockPrefix  = "$KV." + stockBucket + "."

	ordersPrefix = "orders."
	linePrefix   = "line."
	ledgerPrefix = "ledger."
	deadPrefix   = "dead."
	statusPrefix = "status."
)

// Headers that firstcome sets.
const (
	headerOrders = "Firstcome-Orders" // how many orders a queue message carries
	headerReason = "Firstcome-Reason"
	headerSeq    = "Firstcome-Seq"
	headerLine   = "Firstcome-Line"
	headerAt     = "Firstcome-At"
)

// deciders is the priority group in which the workers of a product pull.
const deciders = "deciders"

func ordersSubject(p sale.ProductID) string { return ordersPrefix + string(p) }

func ledgerSubject(p sale.ProductID, n uint64) string {
	return ledgerPrefix + string(p) + "." + strconv.FormatUint(n, 10)
}

// parseLedgerSubject is the inverse of ledgerSubject.
func parseLedgerSubject(subject string) (p sale.ProductID, n uint64, ok bool) {
	product, number, found := strings.Cut(strings.TrimPrefix(subject, ledgerPrefix), ".")
	n, err := strconv.ParseUint(number, 10, 64)
	return sale.ProductID(product), n, found && err == nil
}

func appendStatusSubject(dst []byte, s *sale.Status) []byte {
	dst = append(dst, statusPrefix...)
	dst = s.Email.AppendToken(dst)
	dst = append(dst, '.')
	return s.ID.AppendText(dst)
}
