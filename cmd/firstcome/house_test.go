package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "firstcome"

// house is the table of who may import whom. Libraries of a package's own trade
// come besides, unless a wall says otherwise.
var house = map[string][]string{
	"cmd/firstcome":     {"audit", "bench", "broker", "natsd", "sale", "web"},
	"internal/sale":     {},
	"internal/audit":    {"sale"},
	"internal/saletest": {"sale"},
	"internal/broker":   {"sale"},
	"internal/natsd":    {},
	"internal/web":      {"sale"},
	"internal/bench":    {},
}

// walls are the libraries that one package is for, and no other: that is what
// makes the rule readable without NATS, and keeps the web away from the stock.
var walls = map[string][]string{
	"github.com/nats-io/nats.go":           {"internal/broker"},
	"github.com/synadia-io/orbit.go":       {"internal/broker"},
	"github.com/nats-io/nats-server/v2":    {"internal/natsd"},
	"github.com/gofiber":                   {"internal/web", "internal/bench"}, // the bench's bare handler
	"github.com/fasthttp/websocket":        {"internal/web", "internal/bench"},
	"github.com/prometheus":                {"cmd/firstcome"},
	"github.com/spf13/cobra":               {"cmd/firstcome"},
	"github.com/goccy/go-yaml":             {"cmd/firstcome"},
	"github.com/HdrHistogram/hdrhistogram": {"internal/bench"},
}

// plain are the packages that need nothing but the standard library and the rule.
var plain = []string{"internal/sale", "internal/saletest", "internal/audit"}

// goList runs go list on the whole module.
func goList(t *testing.T, args ...string) []string {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list"}, args...)...)
	cmd.Dir = filepath.Join("..", "..")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %v: %v", args, err)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

func TestWhoMayImportWhom(t *testing.T) {
	found := map[string]bool{}
	for _, line := range goList(t, "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...") {
		path, imports, _ := strings.Cut(line, " ")
		name := strings.TrimPrefix(path, module+"/")
		allowed, known := house[name]
		found[name] = true
		if !known {
			t.Errorf("%s is not in the house", name)
			continue
		}
		for _, imported := range strings.Fields(imports) {
			if ours, is := strings.CutPrefix(imported, module+"/internal/"); is {
				if !slices.Contains(allowed, ours) {
					t.Errorf("%s imports %s", name, ours)
				}
				continue
			}
			first, _, _ := strings.Cut(imported, "/")
			if foreign := strings.Contains(first, "."); foreign && slices.Contains(plain, name) {
				t.Errorf("%s imports %s, it has the standard library alone", name, imported)
			}
			for wall, inside := range walls {
				if strings.HasPrefix(imported, wall) && !slices.Contains(inside, name) {
					t.Errorf("%s imports %s, which is for %v", name, imported, inside)
				}
			}
		}
	}
	for name := range house {
		if !found[name] {
			t.Errorf("%s is in the table and not in the house", name)
		}
	}
}

// Nothing that a package's imports import in turn may lead through a wall: the
// rule has the standard library alone, all the way down, and the audit the rule besides.
func TestRuleStandsAlone(t *testing.T) {
	for _, path := range goList(t, "-deps", "-f", `{{if not .Standard}}{{.ImportPath}}{{end}}`, "./internal/audit") {
		if path != "" && path != module+"/internal/sale" && path != module+"/internal/audit" {
			t.Errorf("the rule or the audit depends on %s", path)
		}
	}
	for _, path := range goList(t, "-deps", "./internal/web") {
		if strings.Contains(path, "nats-io") {
			t.Errorf("web depends on %s", path)
		}
	}
}

// The process ends in one place; elsewhere errors are values.
func TestOneWayOut(t *testing.T) {
	root := filepath.Join("..", "..")
	exits := map[string]int{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != root && strings.HasPrefix(d.Name(), ".") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if on, ok := call.X.(*ast.Ident); ok && (on.Name == "os" && call.Sel.Name == "Exit" ||
				on.Name == "log" && strings.HasPrefix(call.Sel.Name, "Fatal")) {
				rel, _ := filepath.Rel(root, path) // both are relative to here
				exits[filepath.ToSlash(rel)]++
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(exits) != 1 || exits["cmd/firstcome/main.go"] != 1 {
		t.Errorf("the process can end in %v", exits)
	}
}

// made are the folders that running and building make; git ignores them.
var made = []string{"data", "bin"}

func TestTopLevel(t *testing.T) {
	entries, err := os.ReadDir(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	allowed := []string{"cmd", "internal", "configs", "go.mod", "go.sum", "Taskfile.yml", "README.md"}
	for _, e := range entries {
		name := e.Name()
		if !strings.HasPrefix(name, ".") && !slices.Contains(allowed, name) && !slices.Contains(made, name) {
			t.Errorf("%s does not belong on the top level", name)
		}
	}
}
