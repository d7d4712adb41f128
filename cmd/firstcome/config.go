package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
	"time"
)

// config is everything that can be set; configs/firstcome.yaml says what each
// key means. Keys are the yaml tags joined by dots, environment variables the
// same in capitals joined by underscores: http.listen, FIRSTCOME_HTTP_LISTEN.
type config struct {
	Instance instanceConfig  `yaml:"instance"`
	HTTP     httpConfig      `yaml:"http"`
	Ops      opsConfig       `yaml:"ops"`
	NATS     natsConfig      `yaml:"nats"`
	Worker   workerConfig    `yaml:"worker"`
	Group    groupConfig     `yaml:"group"`
	Queue    queueConfig     `yaml:"queue"`
	Products []productConfig `yaml:"products"`
	Limits   limitsConfig    `yaml:"limits"`
	Book     bookConfig      `yaml:"book"`
	Auth     authConfig      `yaml:"auth"`
	Log      logConfig       `yaml:"log"`
}

type instanceConfig struct {
	Name string `yaml:"name"`
}

type httpConfig struct {
	Listen         string        `yaml:"listen"`
	Hosts          []string      `yaml:"hosts"`
	AllowedOrigins []string      `yaml:"allowed_origins"`
	TrustedProxies []string      `yaml:"trusted_proxies"`
	MaxHeaderBytes int           `yaml:"max_header_bytes"`
	IdleTimeout    time.Duration `yaml:"idle_timeout"`
}

type opsConfig struct {
	Listen string   `yaml:"listen"`
	Hosts  []string `yaml:"hosts"`
}

type natsConfig struct {
	URL         string         `yaml:"url"`
	Credentials string         `yaml:"credentials"`
	TLS         tlsConfig      `yaml:"tls"`
	Replicas    int            `yaml:"replicas"`
	Provision   bool           `yaml:"provision"`
	Embedded    embeddedConfig `yaml:"embedded"`

	// Secrets come from the environment alone: a file is copied, committed and
	// shown around.
	User     string `yaml:"-" env:"user"`
	Password secret `yaml:"-" env:"password"`
	Token    secret `yaml:"-" env:"token"`
}

type tlsConfig struct {
	CA   string `yaml:"ca"`
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
}

type embeddedConfig struct {
	Listen   string `yaml:"listen"`
	StoreDir string `yaml:"store_dir"`
	Sync     string `yaml:"sync"`
	Config   string `yaml:"config"`
}

type workerConfig struct {
	Enabled        bool          `yaml:"enabled"`
	ProcessingTime time.Duration `yaml:"processing_time"`
}

type groupConfig struct {
	MaxOrders int           `yaml:"max_orders"`
	MaxWait   time.Duration `yaml:"max_wait"`
	InFlight  int           `yaml:"in_flight"`
}

type queueConfig struct {
	MaxMessages int64 `yaml:"max_messages"`
}

type productConfig struct {
	ID            string `yaml:"id"`
	Stock         int64  `yaml:"stock"`
	LimitPerBuyer int64  `yaml:"limit_per_buyer"`
	Title         string `yaml:"title"`
	Description   string `yaml:"description"`
	Price         string `yaml:"price"`
	Image         string `yaml:"image"`
	NextURL       string `yaml:"next_url"`
}

type limitsConfig struct {
	PerAddress int `yaml:"per_address"`
	PerBuyer   int `yaml:"per_buyer"`

	SocketsPerAddress int `yaml:"sockets_per_address"`
	SocketsPerBuyer   int `yaml:"sockets_per_buyer"`
}

type bookConfig struct {
	MaxOrders int `yaml:"max_orders"`
}

type authConfig struct {
	Mode string `yaml:"mode"`
}

type logConfig struct {
	Level  string `yaml:"level"`
	Format string `yaml:"format"`
}

// secret does not appear in logs, errors or encodings; convert it to a string
// to use it.
type secret string

const hidden = "[hidden]"

func (secret) String() string               { return hidden }
func (secret) GoString() string             { return hidden }
func (secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// defaultConfig is what holds for every key that nobody sets: one machine,
// loopback only, every write fsynced, no products.
func defaultConfig() config {
	return config{
		HTTP: httpConfig{Listen: "127.0.0.1:4000", MaxHeaderBytes: 8192, IdleTimeout: 130 * time.Second},
		Ops:  opsConfig{Listen: "127.0.0.1:4001"},
		NATS: natsConfig{
			Replicas:  1,
			Provision: true,
			Embedded:  embeddedConfig{Listen: "127.0.0.1:4222", StoreDir: "data", Sync: syncAlways},
		},
		Worker: workerConfig{Enabled: true},
		Group:  groupConfig{MaxOrders: 500, MaxWait: 5 * time.Millisecond, InFlight: 3},
		Queue:  queueConfig{MaxMessages: 1_000_000},
		Limits: limitsConfig{SocketsPerBuyer: 20},
		Book:   bookConfig{MaxOrders: 5_000_000},
		Auth:   authConfig{Mode: "open"},
		Log:    logConfig{Level: "info", Format: "text"},
	}
}

const syncAlways = "always"

// syncInterval is the time between fsyncs of the embedded server, zero for
// every write. It is meant for a config that passed validate.
func (e embeddedConfig) syncInterval() time.Duration {
	if e.Sync == syncAlways {
		return 0
	}
	d, err := time.ParseDuration(e.Sync)
	if err != nil {
		return 0 // the safe side of a value that validate refuses
	}
	return d
}

// maxConfigBytes bounds the file; the annotated example is a hundredth of it.
const maxConfigBytes = 1 << 20

// loadConfig reads the defaults, over them the file at path (none if empty) and
// over that the FIRSTCOME_* variables of environ, and validates the result.
// After flags were laid over it, validate is called again. The error holds every
// problem found, each with its key and the line or variable it came from, those that
// further finds included: what only some commands must not accept.
func loadConfig(path string, environ []string, further ...func(config) []problem) (config, error) {
	l := newLoader()
	if path != "" {
		data, err := readConfig(path)
		if err != nil {
			return config{}, fmt.Errorf("configuration: %w", err)
		}
		l.file(path, data)
	}
	l.environment(environ)
	return l.finish(further...)
}

func readConfig(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read: closing cannot lose anything
	data, err := io.ReadAll(io.LimitReader(f, maxConfigBytes+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxConfigBytes {
		return nil, fmt.Errorf("%s: larger than %d bytes", path, maxConfigBytes)
	}
	return data, nil
}

// problem is one thing wrong with the configuration.
type problem struct {
	at   string // file:line or variable; empty for a default or a flag
	key  string // as in products[1].stock; empty where there is none
	text string
}

func (p problem) Error() string {
	parts := make([]string, 0, 3)
	for _, part := range []string{p.at, p.key, p.text} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, ": ")
}

// loader lays the sources over each other and remembers which of them set what,
// so that a value found to be out of range later is blamed on its line.
type loader struct {
	cfg      config
	origin   map[string]string     // key → file:line or variable
	at       func(line int) string // names a line of the source being read
	problems []problem
}

func newLoader() *loader {
	return &loader{cfg: defaultConfig(), origin: map[string]string{}}
}

func (l *loader) report(at, key, format string, args ...any) {
	l.problems = append(l.problems, problem{at, key, fmt.Sprintf(format, args...)})
}

// setting notes that the source being read sets key, and with it everything
// that an earlier source said below it.
func (l *loader) setting(key, at string) {
	for k := range l.origin {
		if below(k, key) {
			delete(l.origin, k)
		}
	}
	l.origin[key] = at
}

// below says whether key is part of the section or list called parent.
func below(key, parent string) bool {
	rest, ok := strings.CutPrefix(key, parent)
	return ok && rest != "" && (rest[0] == '.' || rest[0] == '[')
}

// finish validates and returns the config, or all problems.
func (l *loader) finish(further ...func(config) []problem) (config, error) {
	reading := l.problems
	broken := l.cfg.check()
	for _, check := range further {
		broken = append(broken, check(l.cfg)...)
	}
	for _, p := range broken {
		if !known(reading, p.key) {
			p.at = l.originOf(p.key)
			l.problems = append(l.problems, p)
		}
	}
	if err := joined(l.problems); err != nil {
		return config{}, err
	}
	return l.cfg, nil
}

// known says whether key, or what it is part of, could not be read: what
// stands there instead is not the reader's fault.
func known(problems []problem, key string) bool {
	for _, p := range problems {
		if p.key != "" && (p.key == key || below(key, p.key)) {
			return true
		}
	}
	return false
}

// originOf finds where key was set, or else the section or list it would be in.
func (l *loader) originOf(key string) string {
	for {
		if at, ok := l.origin[key]; ok {
			return at
		}
		i := strings.LastIndexAny(key, ".[")
		if i < 0 {
			return ""
		}
		key = key[:i]
	}
}

func joined(problems []problem) error {
	errs := make([]error, len(problems))
	for i, p := range problems {
		errs[i] = p
	}
	return errors.Join(errs...)
}

// field is one key of a section.
type field struct {
	name    string
	value   reflect.Value
	envOnly bool
}

// fields lists the keys of a section in the order of the struct.
func fields(section reflect.Value) []field {
	var all []field
	for i := range section.NumField() {
		tag := section.Type().Field(i).Tag
		f := field{name: tag.Get("yaml"), value: section.Field(i)}
		if f.name == "-" {
			f.name, f.envOnly = tag.Get("env"), true
		}
		all = append(all, f)
	}
	return all
}

func join(section, name string) string {
	if section == "" {
		return name
	}
	return section + "." + name
}
