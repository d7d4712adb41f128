package main

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// file reads a YAML file over what is there. It walks the syntax tree itself:
// that reports every problem of the file at once, converts nothing silently
// (`listen: 4000` is no string), and keeps the line of each key.
func (l *loader) file(name string, data []byte) {
	l.at = func(line int) string { return fmt.Sprintf("%s:%d", name, line) }
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")) // the byte order mark of Windows editors
	if kind := otherUTF(data); kind != "" {
		l.report(name, "", "is %s: save it as UTF-8", kind)
		return
	}
	if root := l.parse(name, "", data); root != nil {
		l.node("", root, reflect.ValueOf(&l.cfg).Elem())
	}
}

// otherUTF names what a text is encoded in if its byte order mark says that it is not
// UTF-8.
func otherUTF(data []byte) string {
	switch {
	case bytes.HasPrefix(data, []byte("\xff\xfe\x00\x00")), bytes.HasPrefix(data, []byte("\x00\x00\xfe\xff")):
		return "UTF-32"
	case bytes.HasPrefix(data, []byte("\xff\xfe")), bytes.HasPrefix(data, []byte("\xfe\xff")):
		return "UTF-16"
	}
	return ""
}

// parse returns the root of a document, nil if it is empty or unreadable.
func (l *loader) parse(at, key string, data []byte) ast.Node {
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		if e, ok := errors.AsType[yaml.Error](err); ok && e.GetToken() != nil {
			l.report(l.at(e.GetToken().Position.Line), key, "%s", e.GetMessage())
		} else {
			l.report(at, key, "%s", err)
		}
		return nil
	}
	var root ast.Node
	for _, doc := range file.Docs {
		if doc.Body == nil {
			continue
		}
		if root != nil {
			l.report(l.at(lineOf(doc.Body)), key, "a second YAML document")
			return nil
		}
		root = doc.Body
	}
	return root
}

func lineOf(n ast.Node) int {
	if tk := n.GetToken(); tk != nil && tk.Position != nil {
		return tk.Position.Line
	}
	return 1
}

func (l *loader) node(key string, n ast.Node, dst reflect.Value) {
	switch dst.Kind() {
	case reflect.Struct:
		l.section(key, n, dst)
	case reflect.Slice:
		l.list(key, n, dst)
	default:
		text, err := scalar(n, dst)
		if err == nil {
			err = assign(dst, text)
		}
		if err != nil {
			l.report(l.origin[key], key, "%s", err)
		}
	}
}

func (l *loader) section(key string, n ast.Node, dst reflect.Value) {
	m, ok := n.(ast.MapNode)
	if !ok {
		l.report(l.at(lineOf(n)), key, "must be a section with keys below it, is %s", kind(n))
		return
	}
	known := map[string]field{}
	var names []string
	for _, f := range fields(dst) {
		if !f.envOnly {
			known[f.name] = f
			names = append(names, f.name)
		}
	}
	for it := m.MapRange(); it.Next(); {
		name := it.Key().String()
		if s, ok := it.Key().(*ast.StringNode); ok {
			name = s.Value
		}
		at := l.at(lineOf(it.Key()))
		full := join(key, name)
		f, ok := known[name]
		if !ok {
			l.report(at, full, "unknown key (known here: %s)", strings.Join(names, ", "))
			continue
		}
		l.setting(full, at)
		l.node(full, it.Value(), f.value)
	}
}

func (l *loader) list(key string, n ast.Node, dst reflect.Value) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		l.report(l.origin[key], key, "must be a list, is %s", kind(n))
		return
	}
	// Items are made from nothing: a list replaces the one before it.
	dst.Set(reflect.Zero(dst.Type()))
	for i, item := range seq.Values {
		dst.Set(reflect.Append(dst, reflect.Zero(dst.Type().Elem())))
		full := index(key, i)
		l.setting(full, l.at(lineOf(item)))
		l.node(full, item, dst.Index(i))
	}
}

// scalar returns the text of n if it is of the kind that dst takes: 5 is a
// number, "5" is a string, and neither stands in for the other.
func scalar(n ast.Node, dst reflect.Value) (string, error) {
	var ok bool
	want := expected(dst)
	switch dst.Interface().(type) {
	case string, time.Duration:
		if s, ok := n.(*ast.StringNode); ok {
			return s.Value, nil
		}
	case int, int64:
		_, ok = n.(*ast.IntegerNode)
	case bool:
		_, ok = n.(*ast.BoolNode)
	}
	if !ok {
		return "", fmt.Errorf("must be %s, is %s", want, kind(n))
	}
	return n.GetToken().Value, nil
}

func expected(dst reflect.Value) string {
	switch dst.Interface().(type) {
	case time.Duration:
		return "a duration such as 5ms or 2s"
	case int, int64:
		return "a whole number"
	case bool:
		return "true or false"
	default:
		return "a string"
	}
}

// kind says what stands there, in the words of YAML.
func kind(n ast.Node) string {
	switch n := n.(type) {
	case *ast.NullNode:
		return "empty"
	case ast.MapNode:
		return "a section"
	case *ast.SequenceNode:
		return "a list"
	case *ast.StringNode:
		return fmt.Sprintf("the string %q", n.Value)
	case *ast.IntegerNode, *ast.FloatNode:
		return "the number " + n.GetToken().Value
	case *ast.BoolNode:
		return "the word " + n.GetToken().Value + " (quote it to make it a string)"
	default:
		return "a YAML " + n.Type().YAMLName()
	}
}

// assign reads text, from a file or the environment, into a single value.
func assign(dst reflect.Value, text string) error {
	var err error
	switch v := dst.Addr().Interface().(type) {
	case *string:
		*v = text
	case *secret:
		*v = secret(text)
	case *time.Duration:
		*v, err = time.ParseDuration(text)
	case *bool:
		*v, err = strconv.ParseBool(text)
	case *int, *int64:
		var n int64
		if n, err = strconv.ParseInt(text, 10, dst.Type().Bits()); err == nil {
			dst.SetInt(n)
		}
	default:
		panic("config has a field of type " + dst.Type().String()) // a test reads every field
	}
	if err != nil {
		return fmt.Errorf("must be %s, is %q", expected(dst), text)
	}
	return nil
}

const envPrefix = "FIRSTCOME_"

// serviceLinks are the variables that Kubernetes puts into every pod beside a
// service called firstcome or firstcome-something. They are not ours.
var serviceLinks = regexp.MustCompile(`^FIRSTCOME(_[A-Z0-9_]+)?_(` +
	`SERVICE_HOST=|SERVICE_PORT(_[A-Z0-9_]+)?=|PORT=[a-z]+://|PORT_[0-9]+_(TCP|UDP|SCTP)(_PROTO|_PORT|_ADDR)?=)`)

// environment reads the FIRSTCOME_* variables over what is there. A variable
// that is set to nothing is set; one that no key has is an error, since it is
// most likely a misspelt one.
func (l *loader) environment(environ []string) {
	keys := map[string]field{}
	variables("", reflect.ValueOf(&l.cfg).Elem(), keys)
	for _, variable := range environ {
		name, text, _ := strings.Cut(variable, "=")
		if !strings.HasPrefix(name, envPrefix) || serviceLinks.MatchString(variable) {
			continue
		}
		f, ok := keys[name]
		if !ok {
			l.report(name, "", "unknown variable (they are named after the keys: http.listen is FIRSTCOME_HTTP_LISTEN)")
			continue
		}
		l.at = func(int) string { return name }
		l.setting(f.name, name)
		l.variable(f.name, text, f.value)
	}
}

// variables collects every key that holds a value or a list, by variable.
func variables(section string, v reflect.Value, into map[string]field) {
	for _, f := range fields(v) {
		f.name = join(section, f.name)
		if f.value.Kind() == reflect.Struct {
			variables(f.name, f.value, into)
			continue
		}
		into[envPrefix+strings.ToUpper(strings.ReplaceAll(f.name, ".", "_"))] = f
	}
}

func (l *loader) variable(key, text string, dst reflect.Value) {
	switch list := dst.Addr().Interface().(type) {
	case *[]string:
		*list = items(text)
	case *[]productConfig:
		if strings.HasPrefix(text, "[") {
			if root := l.parse(l.origin[key], key, []byte(text)); root != nil {
				l.node(key, root, dst)
			}
			return
		}
		*list = nil
		for i, item := range items(text) {
			id, stock, _ := strings.Cut(item, "=")
			p := productConfig{ID: id}
			if err := assign(reflect.ValueOf(&p.Stock).Elem(), stock); err != nil {
				l.report(l.origin[key], index(key, i)+".stock", "%s, as in tshirt=5,mug=10", err)
			}
			*list = append(*list, p)
		}
	default:
		if err := assign(dst, text); err != nil {
			l.report(l.origin[key], key, "%s", err)
		}
	}
}

// items splits a comma-separated list; nothing is the empty list.
func items(text string) []string {
	if text == "" {
		return nil
	}
	list := strings.Split(text, ",")
	for i := range list {
		list[i] = strings.TrimSpace(list[i])
	}
	return list
}
