package main

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"firstcome/internal/broker"
	"firstcome/internal/sale"
	"firstcome/internal/web"
)

// metrics is what an operator watches. No label holds an address: products are
// few and chosen by the operator, buyers are neither.
type metrics struct {
	registry    *prometheus.Registry
	orders      *prometheus.CounterVec
	decision    *prometheus.HistogramVec
	group       *prometheus.HistogramVec
	redelivered *prometheus.CounterVec
	conflicts   *prometheus.CounterVec
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		orders: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "firstcome_orders_total",
			Help: "Orders decided by this instance, by outcome; lines that were duplicates or dead included."}, []string{"product", "outcome"}),
		decision: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "firstcome_decision_seconds",
			Help:    "Time from the delivery of a group to its committed decision.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14)}, []string{"product"}),
		group: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "firstcome_group_orders",
			Help: "Orders in a decided group.", Buckets: prometheus.ExponentialBuckets(1, 2, 11)}, []string{"product"}),
		redelivered: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "firstcome_redeliveries_total",
			Help: "Queue messages that were delivered to this instance again."}, []string{"product"}),
		conflicts: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "firstcome_stock_conflicts_total",
			Help: "Appends to the history that were lost to another instance, or whose end was unknown."}, []string{"product"}),
	}
	m.registry.MustRegister(m.orders, m.decision, m.group, m.redelivered, m.conflicts,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// gauges are the running parts that figures are read off.
type gauges struct {
	conn *broker.Conn
	book *sale.Book
	web  *web.Server
}

// watch adds the gauges that are read off the running parts.
func (m *metrics) watch(g gauges) {
	m.registry.MustRegister(&products{book: g.book,
		waiting: prometheus.NewDesc("firstcome_waiting_orders", "Orders in the queue that are undecided.", []string{"product"}, nil),
		foreign: prometheus.NewDesc("firstcome_foreign_values_total",
			"Values in the bucket that firstcome did not write, as this instance has passed them over; the same on every instance.", []string{"product"}, nil),
		stuck: prometheus.NewDesc("firstcome_product_stuck", "1 while nothing of the product is decided and its door is closed for that; the same on every instance.", []string{"product"}, nil)},
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "firstcome_sockets",
			Help: "Open WebSockets."}, func() float64 { return float64(g.web.Sockets()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "firstcome_sockets_slow_total",
			Help: "WebSockets that were closed because they fell behind."},
			func() float64 { return float64(g.web.Stats().SlowSockets) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "firstcome_sockets_refused_total",
			Help: "WebSockets that were not opened: there were too many, of the instance or from the address, or the instance was stopping."},
			func() float64 { return float64(g.web.Stats().RefusedSockets) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "firstcome_connections_refused_total",
			Help: "Connections to the shop that were closed at once: more would not leave enough file descriptors."},
			func() float64 { return float64(g.web.Stats().RefusedConnections) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "firstcome_book_orders",
			Help: "Orders that the book holds."}, func() float64 { return float64(g.book.Len()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "firstcome_nats_connected",
			Help: "1 while NATS is connected."}, func() float64 {
			if g.conn.Connected() {
				return 1
			}
			return 0
		}))
}

// Decided implements sale.Observer. A message of the desk has no outcomes.
func (m *metrics) Decided(product sale.ProductID, outcomes []sale.Outcome, took time.Duration) {
	if len(outcomes) == 0 {
		return
	}
	p := string(product)
	m.decision.WithLabelValues(p).Observe(took.Seconds())
	m.group.WithLabelValues(p).Observe(float64(len(outcomes)))
	var count [sale.Dead + 1]int
	for _, o := range outcomes {
		count[o]++
	}
	for o, n := range count {
		if n > 0 {
			m.orders.WithLabelValues(p, sale.Outcome(o).String()).Add(float64(n))
		}
	}
}

// Redelivered implements sale.Observer.
func (m *metrics) Redelivered(product sale.ProductID) {
	m.redelivered.WithLabelValues(string(product)).Inc()
}

// Conflict implements sale.Observer.
func (m *metrics) Conflict(product sale.ProductID) {
	m.conflicts.WithLabelValues(string(product)).Inc()
}

// products collects the figures of every product.
type products struct {
	book                    *sale.Book
	waiting, foreign, stuck *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (c *products) Describe(to chan<- *prometheus.Desc) {
	to <- c.waiting
	to <- c.foreign
	to <- c.stuck
}

// Collect implements prometheus.Collector.
func (c *products) Collect(to chan<- prometheus.Metric) {
	for _, p := range c.book.Products() {
		id := string(p.Product)
		to <- prometheus.MustNewConstMetric(c.waiting, prometheus.GaugeValue, float64(p.Waiting), id)
		to <- prometheus.MustNewConstMetric(c.foreign, prometheus.CounterValue, float64(c.book.Foreign(p.Product)), id)
		stuck := 0.0
		if p.Stuck != "" {
			stuck = 1
		}
		to <- prometheus.MustNewConstMetric(c.stuck, prometheus.GaugeValue, stuck, id)
	}
}
