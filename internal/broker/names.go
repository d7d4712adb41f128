package broker

import (
	"strings"

	"firstcome/internal/sale"
)

// Streams, the bucket and the prefixes of subjects.
const (
	ordersStream = "ORDERS"
	deadStream   = "DEAD"
	stockBucket  = "stock"
	stockStream  = "KV_" + stockBucket
	stockPrefix  = "$KV." + stockBucket + "."

	ordersPrefix = "orders."
	deskPrefix   = "desk."
	linePrefix   = "line." // before the subject of a queue message, where it is republished
	ledgerPrefix = "ledger."
	deadPrefix   = "dead."
	statusPrefix = "status."
)

// oldLedger is the stream that only stores of an earlier layout have.
const oldLedger = "LEDGER"

// Metadata of the streams. A restore keeps them, and every replica has the same, which
// is not true of the server's creation time.
const (
	metaEpoch = "firstcome_epoch" // of ORDERS: when it was made, RFC 3339; sequences of another epoch are others
	metaFirst = "firstcome_first" // of ORDERS: the first sequence of the epoch; missing: 1
	metaStore = "firstcome_store" // of KV_stock: a UUID made with the bucket
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

func deskSubject(p sale.ProductID) string { return deskPrefix + string(p) }

func stockSubject(p sale.ProductID) string { return stockPrefix + string(p) }

// queueSubject reads a queue message's subject: whose it is, and whether it is the
// desk's.
func queueSubject(subject string) (p sale.ProductID, desk, ok bool) {
	name, desk := strings.CutPrefix(subject, deskPrefix)
	if !desk {
		if name, ok = strings.CutPrefix(subject, ordersPrefix); !ok {
			return "", false, false
		}
	}
	p, err := sale.ParseProductID(name)
	return p, desk, err == nil
}

func appendStatusSubject(dst []byte, s *sale.Status) []byte {
	dst = append(dst, statusPrefix...)
	dst = s.Email.AppendToken(dst)
	dst = append(dst, '.')
	return s.ID.AppendText(dst)
}
