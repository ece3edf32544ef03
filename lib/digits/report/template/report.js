// Folding and finding one's place; the report reads the same without it.
(() => {
  const sidebar = document.querySelector(".contents");
  const contents = sidebar.querySelector("details");
  const wide = matchMedia("(min-width: 68rem)");
  const fold = () => { contents.open = wide.matches; };
  fold();
  wide.addEventListener("change", fold);
  addEventListener("beforeprint", () => { contents.open = true; });
  contents.addEventListener("click", (event) => {
    if (event.target.closest("a") && !wide.matches) contents.open = false;
  });

  const button = document.querySelector(".all-code");
  button.addEventListener("click", () => {
    const show = button.getAttribute("aria-pressed") !== "true";
    document.querySelectorAll("details.code").forEach((details) => { details.open = show; });
    button.setAttribute("aria-pressed", String(show));
    button.textContent = show ? "Hide all code" : "Show all code";
  });

  document.querySelectorAll("figure.digits-figure:not(.digits-live)").forEach((figure) => { // a wide figure's letters are small on a phone
    const enlarge = document.createElement("button");
    enlarge.type = "button";
    enlarge.className = "enlarge";
    enlarge.textContent = "Enlarge";
    enlarge.addEventListener("click", () => {
      enlarge.textContent = figure.classList.toggle("large") ? "Shrink" : "Enlarge";
    });
    figure.querySelector("img").after(enlarge);
  });

  const picture = document.querySelector("figure.app"), draw = picture?.querySelector(".draw");
  if (draw) { // the picture becomes the reader that it shows; until then that costs nothing
    const begin = () => {
      const reader = document.createElement("iframe");
      reader.title = "Draw a digit or a number";
      reader.addEventListener("load", () => {
        const page = reader.contentDocument, fit = () => { reader.style.height = `${page.documentElement.offsetHeight}px`; };
        new ResizeObserver(fit).observe(page.documentElement);
        fit();
      });
      reader.srcdoc = JSON.parse(document.getElementById("reader").textContent);
      draw.replaceWith(reader);
      picture.classList.add("alive");
    };
    draw.hidden = false;
    draw.addEventListener("click", begin);
    picture.querySelector("img").addEventListener("click", () => draw.isConnected && begin());
  }

  const links = new Map([...document.querySelectorAll(".contents a")].map((link) => [link.hash.slice(1), link]));
  const headings = [...document.querySelectorAll("main h1[id], main h2[id]")].filter((heading) => links.has(heading.id));
  let current = null;
  const mark = () => {
    const passed = headings.filter((heading) => heading.getBoundingClientRect().top < 120);
    const link = links.get((passed.at(-1) ?? headings[0])?.id);
    if (link === current) return;
    current?.removeAttribute("aria-current");
    current = link;
    current?.setAttribute("aria-current", "true");
    const chapter = link?.closest(".contents > details > ol > li");
    document.querySelectorAll(".contents li.here").forEach((item) => item.classList.remove("here"));
    chapter?.classList.add("here");
    if (wide.matches && link) sidebar.scrollTop = link.offsetTop - sidebar.clientHeight / 2; // only the list, not the page
  };
  let due = false;
  addEventListener("scroll", () => {
    if (due) return;
    due = true;
    requestAnimationFrame(() => { due = false; mark(); });
  }, { passive: true });
  mark();
})();
