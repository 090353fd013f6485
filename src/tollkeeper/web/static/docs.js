// Comforts only: the pages say everything without it.
for (const button of document.querySelectorAll("button.copy")) {
  if (!navigator.clipboard) break;
  button.hidden = false;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(button.closest("figure").querySelector("code").textContent);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
}

const side = document.querySelector("nav.side");
const filter = side?.querySelector(".filter");
if (filter) {
  filter.hidden = false;
  const items = [...side.querySelectorAll("li")];
  filter.addEventListener("input", () => {
    const wanted = filter.value.trim().toLowerCase();
    for (const item of items) item.hidden = !item.textContent.toLowerCase().includes(wanted);
    for (const heading of side.querySelectorAll("h2")) {
      heading.hidden = ![...heading.nextElementSibling.children].some((item) => !item.hidden);
    }
  });

  const links = new Map([...side.querySelectorAll("li a")].map((link) => [link.hash.slice(1), link]));
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      side.querySelector("[aria-current]")?.removeAttribute("aria-current");
      const link = links.get(entry.target.id);
      link?.setAttribute("aria-current", "true");
      if (link && (link.offsetTop < side.scrollTop || link.offsetTop > side.scrollTop + side.clientHeight - 60)) {
        side.scrollTop = link.offsetTop - side.clientHeight / 3;
      }
    }
  }, { rootMargin: "-15% 0px -75% 0px" });
  for (const section of document.querySelectorAll("section.operation")) watcher.observe(section);
}
