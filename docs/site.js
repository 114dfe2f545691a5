// The page of the demo is as light or dark as the site, where it may be reached: not from a file.
const follow = () => {
  const scheme = document.body.dataset.mdColorScheme === "slate" ? "dark" : "light";
  for (const frame of document.querySelectorAll("iframe.demo")) {
    const root = frame.contentDocument?.documentElement;
    if (root) root.style.colorScheme = scheme;
  }
};
new MutationObserver(follow).observe(document.body, { attributes: true, attributeFilter: ["data-md-color-scheme"] });
for (const frame of document.querySelectorAll("iframe.demo")) frame.addEventListener("load", follow);
