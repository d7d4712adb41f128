package main

import (
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

var (
	codeSpan = regexp.MustCompile("`[^`]*`")
	inline   = regexp.MustCompile(`\[([^\]]*)\]\([^()]*\)`)
	linkTo   = regexp.MustCompile(`(?:\]\(|^\[[^\]]+\]: *)([^()\s]*)`) // inline, or as a definition
	heading  = regexp.MustCompile(`^#{1,6} +(.*?)[ #]*$`)
	scheme   = regexp.MustCompile(`^[a-z]+:`)
)

// Every relative link of every README leads to a file or folder of the repository,
// and every anchor to a heading. GitHub shows them; nothing else would notice.
func TestLinksOfTheReadmes(t *testing.T) {
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	var readmes []string
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root && strings.HasPrefix(d.Name(), "."):
			return filepath.SkipDir
		case d.IsDir() && filepath.Dir(path) == root && slices.Contains(made, d.Name()):
			return filepath.SkipDir
		case d.Name() == "README.md":
			readmes = append(readmes, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, readme := range readmes {
		name, _ := filepath.Rel(root, readme) // both are absolute
		for _, link := range linksOf(proseOf(t, readme)) {
			if scheme.MatchString(link) {
				continue // another site
			}
			checked++
			if trouble := follow(t, root, readme, link); trouble != "" {
				t.Errorf("%s: the link %q %s", name, link, trouble)
			}
		}
	}
	if len(readmes) < 2 || checked == 0 {
		t.Errorf("found %d links in %v", checked, readmes)
	}
}

// follow says what is wrong with a link of a README, if anything is.
func follow(t *testing.T, root, readme, link string) string {
	path, anchor, hasAnchor := strings.Cut(link, "#")
	path, err := url.PathUnescape(path)
	if err != nil {
		return "cannot be read: " + err.Error()
	}
	target := readme
	if path != "" {
		target = filepath.Join(filepath.Dir(readme), filepath.FromSlash(path))
	}
	inside, err := filepath.Rel(root, target)
	if err != nil || strings.HasPrefix(path, "/") || !filepath.IsLocal(inside) {
		return "leads out of the repository"
	}
	if slices.Contains(made, strings.Split(filepath.ToSlash(inside), "/")[0]) {
		return "leads to what git ignores"
	}
	if _, err := os.Stat(target); err != nil {
		return "leads nowhere"
	}
	switch {
	case !hasAnchor:
		return ""
	case filepath.Ext(target) != ".md":
		return "has an anchor in something without headings"
	case !slices.Contains(anchorsOf(proseOf(t, target)), anchor):
		return "names no heading of " + filepath.ToSlash(inside)
	}
	return ""
}

// proseOf is a Markdown file without its fenced code.
func proseOf(t *testing.T, path string) (lines []string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	fenced := false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "```") {
			fenced = !fenced
		} else if !fenced {
			lines = append(lines, line)
		}
	}
	if fenced {
		t.Errorf("%s ends inside fenced code", path)
	}
	return lines
}

func linksOf(prose []string) (links []string) {
	for _, line := range prose {
		for _, found := range linkTo.FindAllStringSubmatch(codeSpan.ReplaceAllString(line, ""), -1) {
			links = append(links, found[1])
		}
	}
	return links
}

// anchorsOf makes an anchor of every heading as GitHub does: in lower case, hyphens
// for spaces, without punctuation, and numbered where one comes again.
func anchorsOf(prose []string) (anchors []string) {
	times := map[string]int{}
	for _, line := range prose {
		found := heading.FindStringSubmatch(line)
		if found == nil {
			continue
		}
		anchor := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-', r == '_', unicode.IsLetter(r), unicode.IsNumber(r):
				return unicode.ToLower(r)
			}
			return -1
		}, inline.ReplaceAllString(found[1], "$1"))
		n := times[anchor]
		times[anchor]++
		if n > 0 {
			anchor += "-" + strconv.Itoa(n)
		}
		anchors = append(anchors, anchor)
	}
	return anchors
}
