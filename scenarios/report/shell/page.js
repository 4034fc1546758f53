// Draws the page's figures with plotly, each when it first comes near the view, in the colours of page.css: a colour in a
// figure may be the name of a CSS variable. Draws them again when the system turns dark or light, and all of them, light, for print.
// Of the children of an element of class `panels` one is shown: a button names it in data-show, a figure's point by its id
// (the trace with meta "picked" then rings that point). A button with data-copy copies the text of the element it names.
(function () {
  "use strict";
  var root = document.documentElement;
  var drawn = new Set();
  var specs = {};
  document.querySelectorAll("script[data-figure]").forEach(function (s) { specs[s.dataset.figure] = s; });

  function coloured(value, key, style) {
    if (typeof value === "string") {
      return /colou?r/.test(key) && /^var\(--[a-z0-9-]+\)$/.test(value) ? style.getPropertyValue(value.slice(4, -1)).trim() : value;
    }
    if (Array.isArray(value)) { return /colou?r/.test(key) ? value.map(function (v) { return coloured(v, key, style); }) : value.map(inner); }
    return value && typeof value === "object" ? inner(value) : value;
    function inner(v) {
      if (!v || typeof v !== "object" || Array.isArray(v)) { return v; }
      var out = {};
      Object.keys(v).forEach(function (k) { out[k] = coloured(v[k], k, style); });
      return out;
    }
  }

  function draw(id) {
    var box = document.getElementById(id);
    if (typeof Plotly === "undefined" || !box || !box.offsetParent) { return; }
    var spec = coloured(JSON.parse(specs[id].textContent), "", getComputedStyle(root));
    spec.layout.width = box.clientWidth;
    spec.layout.height = box.clientHeight;
    var zoom = drawn.has(id) && box.layout && box.layout.xaxis && spec.layout.xaxis.fixedrange === false ? box.layout.xaxis.range : null;
    if (zoom) { spec.layout.xaxis.range = zoom.slice(); }
    if (window.matchMedia("(pointer: coarse)").matches) { spec.layout.dragmode = false; }
    ring(spec.data);
    Plotly.react(box, spec.data, spec.layout, { displayModeBar: false, doubleClick: "reset" });
    if (!drawn.has(id)) { box.on("plotly_click", function (e) { choose(e.points[0].id); }); }
    drawn.add(id);
  }

  function again() { drawn.forEach(draw); }

  function panel(id) {
    var it = id ? document.getElementById(id) : null;
    return it && it.parentElement.classList.contains("panels") ? it : null;
  }

  function ring(traces) {
    traces.filter(function (t) { return t.meta === "picked"; }).forEach(function (mark) {
      mark.x = [];
      mark.y = [];
      traces.forEach(function (t) {
        (t.ids || []).forEach(function (id, i) {
          var it = panel(id);
          if (it && !it.hidden) { mark.x.push(t.x[i]); mark.y.push(t.y[i]); }
        });
      });
    });
  }

  // The chosen point stands in the address, so that a link leads to it; what is chosen by a key is then read from there on.
  function choose(id) {
    show(id);
    var shown = panel(id);
    if (!shown) { return; }
    try { history.replaceState(null, "", "#" + id); } catch (e) { location.hash = id; }
    shown.setAttribute("tabindex", "-1");
    shown.focus({ preventScroll: true });
  }

  function linked() {
    var id = decodeURIComponent(location.hash.slice(1));
    var shown = panel(id);
    if (shown) { show(id); shown.scrollIntoView({ block: "center" }); }
  }

  function show(id) {
    var shown = panel(id);
    if (!shown) { return; }
    Array.from(shown.parentElement.children).forEach(function (p) { p.hidden = p !== shown; });
    document.querySelectorAll("button[data-show]").forEach(function (b) {
      var it = panel(b.dataset.show);
      if (it && it.parentElement === shown.parentElement) { b.setAttribute("aria-pressed", String(it === shown)); }
    });
    drawn.forEach(function (name) {
      if (document.getElementById(name).data.some(function (t) { return t.meta === "picked"; })) { draw(name); }
    });
  }

  function copy(button) {
    var text = document.getElementById(button.dataset.copy);
    var range = document.createRange();
    range.selectNodeContents(text);
    var selection = window.getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
    var words = button.dataset.words || (button.dataset.words = button.textContent);
    function say(done) {
      button.textContent = done ? "copied" : "selected: press Ctrl+C";
      setTimeout(function () { button.textContent = words; }, 2000);
    }
    if (navigator.clipboard) {
      navigator.clipboard.writeText(text.textContent).then(function () { say(true); }, function () { say(document.execCommand("copy")); });
    } else { say(document.execCommand("copy")); }
  }

  var watch = new IntersectionObserver(function (entries) {
    entries.forEach(function (e) {
      if (e.isIntersecting && !drawn.has(e.target.id)) { draw(e.target.id); }
    });
  }, { rootMargin: "900px 0px" });
  document.addEventListener("click", function (event) {
    var button = event.target.closest("button[data-zoom]");
    if (button && drawn.has(button.dataset.zoom)) {
      Plotly.relayout(button.dataset.zoom, { "xaxis.range": [Number(button.dataset.from), Number(button.dataset.to)] });
    }
    var chooser = event.target.closest("button[data-show]");
    if (chooser) { choose(chooser.dataset.show); }
    var copier = event.target.closest("button[data-copy]");
    if (copier) { copy(copier); }
  });

  var sized = new ResizeObserver(function (entries) {
    entries.forEach(function (e) {
      var box = e.target;
      if (drawn.has(box.id) && box.clientWidth && box.layout && box.layout.width !== box.clientWidth) { draw(box.id); }
    });
  });
  Object.keys(specs).forEach(function (id) {
    var box = document.getElementById(id);
    if (box) { watch.observe(box); sized.observe(box); }
  });
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);

  window.addEventListener("hashchange", linked);
  linked();

  var folded = [];
  window.addEventListener("beforeprint", function () {
    root.classList.add("printing");
    folded = Array.from(document.querySelectorAll("details:not([open])"));
    folded.forEach(function (d) { d.open = true; });
    Object.keys(specs).forEach(draw);
  });
  window.addEventListener("afterprint", function () {
    root.classList.remove("printing");
    folded.forEach(function (d) { d.open = false; });
    again();
  });
})();
