"use strict";

// The explorer. All text goes into the page as text, never as HTML.
const data = JSON.parse(document.getElementById("data").textContent);
const { items, users } = data;
const numLevels = items.codes ? items.codes[0].length : 0;
const MOST_FOUND = 20; // items that a search lists
const MOST_LISTED = 10; // items that a list shows at first
const MOST_BRANCHES = 5; // of a tree, likewise

const TREE = "Codes of IDs that the search keeps, level by level. A bar is the probability of an ID that begins " +
  "with all codes down to there; green and ✓ are the way to the true item.";

const at = (id) => document.getElementById(id);
const title = (item) => items.titles[item].trim() || items.ids[item];
const range = (size) => Array.from({ length: size }, (_, place) => place);

function percent(share) {
  if (share < 0.00005) return "<0.01%";
  return share >= 0.0995 ? `${Math.round(100 * share)}%` : `${Number((100 * share).toPrecision(2))}%`;
}

/** Returns an element: make("li", { className: "hit" }, "text", child, ...). */
function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.filter((child) => child !== null));
  return element;
}

function chips(codes, alike = []) {
  const marks = codes.map((code, level) =>
    make("span", { className: level < alike.length && alike[level] ? "chip same" : "chip" }, String(code)));
  return make("span", { className: "chips" }, ...marks);
}

/** Returns what stands in the page's address when a user or an item is open. */
const address = (kind, entry) => `#${kind}=${encodeURIComponent(entry)}`;

/** Returns an item's title, which opens it, and its ID. */
function itemLink(item, alike) {
  const link = make("a", { href: address("item", items.ids[item]) }, title(item));
  return make("span", {}, link, " ", items.codes ? chips(items.codes[item], alike) : null);
}

/** Lists elements, all but the first ones behind a button. */
function list(tag, elements, most, className = "") {
  const found = make(tag, { className }, ...elements.slice(0, most));
  if (elements.length > most) {
    const rest = elements.slice(most);
    const more = make("button", { type: "button" }, `${rest.length.toLocaleString()} more`);
    const line = make("li", {}, more);
    more.addEventListener("click", () => line.replaceWith(...rest));
    found.append(line);
  }
  return found;
}

// Users.

/** Returns the tree of a user's beams: nodes with code, log-probability, children. */
function beamTree(user) {
  const root = { children: [], prefix: [] };
  let above = [root];
  for (const level of user.beams) {
    above = level.map(([code, parent, score]) => {
      const node = { code, score, prefix: [...above[parent].prefix, code], children: [] };
      above[parent].children.push(node);
      return node;
    });
  }
  return root;
}

/** Returns how many codes of an ID, from the first on, the search has kept. */
function numKept(node, id) {
  const next = node.children.find((child) => child.code === id[node.prefix.length]);
  return next ? numKept(next, id) : node.prefix.length;
}

const isTrue = (node, user) => node.prefix.every((code, level) => code === items.codes[user.target][level]);

/** Lists nodes, the likeliest first, but behind none of those that are hidden the true one. */
function beamList(nodes, user, places, className = "") {
  const shown = nodes.slice(0, MOST_BRANCHES);
  const rest = nodes.slice(MOST_BRANCHES);
  const ordered = [...shown, ...rest.filter((node) => isTrue(node, user)), ...rest.filter((node) => !isTrue(node, user))];
  const most = MOST_BRANCHES + rest.filter((node) => isTrue(node, user)).length;
  return list("ul", ordered.map((node) => beamNode(node, user, places)), most, className);
}

function beamNode(node, user, places) {
  const probability = Math.exp(node.score);
  const meter = make("span", { className: "meter" }, make("i"));
  meter.firstChild.style.width = `${100 * probability}%`;
  const item = places.get(node.prefix.join());
  const isOnWay = isTrue(node, user);
  const isEnd = node.prefix.length < numLevels && !node.children.length;
  const row = make("span", { className: "row" }, chips([node.code]), meter,
    make("span", { className: "share" }, percent(probability)),
    isOnWay ? make("span", { className: "hit", title: "on the way to the true item" }, "✓") : null,
    item === undefined ? null : make("a", { className: "name", href: address("item", items.ids[item]) }, title(item)),
    isEnd ? make("span", { className: "soft" }, "goes no further") : null);
  return make("li", { className: isOnWay ? "true" : "" }, row,
    node.children.length ? beamList(node.children, user, places) : null);
}

function showUser(number) {
  const user = users[number];
  const rank = user.items.indexOf(user.target);
  const history = [...user.history].reverse().map((item) => make("li", {}, itemLink(item)));
  const recommended = user.items.map((item, place) => {
    const share = user.scores ? make("span", { className: "share" }, ` ${percent(Math.exp(user.scores[place]))}`) : null;
    return make("li", { className: item === user.target ? "hit" : "" }, itemLink(item), share);
  });
  const verdict = rank < 0
    ? make("p", { className: "missed" }, `It is not among the ${user.items.length} shown below.`)
    : make("p", { className: "hit" }, `It is number ${rank + 1} of the recommendations.`);
  const parts = [
    make("h3", {}, `What the model reads of user ${user.id}, the latest first`), history.length ? list("ol", history, MOST_LISTED) : make("p", { className: "soft" }, "Nothing."),
    make("h3", {}, "What they took next"), make("p", {}, itemLink(user.target)), verdict,
    make("h3", {}, "What the model recommends"), list("ol", recommended, MOST_LISTED),
  ];
  if (user.beams) {
    const places = new Map(user.beamItems.map((item) => [items.codes[item].join(), item]));
    const root = beamTree(user);
    const kept = numKept(root, items.codes[user.target]);
    const says = kept === numLevels
      ? "The search reaches the true item."
      : `The search keeps ${kept} of the true item's ${numLevels} codes.`;
    parts.push(make("h3", {}, "How the search went"),
      make("p", { className: "soft" }, `${TREE} ${says}`),
      beamList(root.children, user, places, "tree"));
  }
  at("user").replaceChildren(...parts);
  if (!isOfGroup(user, at("user-group").value)) {
    at("user-group").value = "all";
    listUsers();
  }
  at("user-choice").value = String(number);
}

function isOfGroup(user, group) {
  const isHit = user.items.indexOf(user.target) >= 0;
  return group === "all" || isHit === (group === "hits");
}

function listUsers() {
  const chosen = range(users.length).filter((number) => isOfGroup(users[number], at("user-group").value));
  at("user-choice").replaceChildren(...chosen.map((number) =>
    make("option", { value: String(number) }, `${users[number].id} (${users[number].history.length} items)`)));
  return chosen;
}

/** Opens the user that is so many steps further in the list. */
function step(distance) {
  const choice = at("user-choice");
  const size = choice.options.length;
  if (!size) return;
  choice.selectedIndex = (choice.selectedIndex + distance + size) % size;
  openUser(Number(choice.value));
}

// Items.

/** Returns for each code whether two IDs are the same down to it. */
const alike = (one, other) => {
  let same = true;
  return items.codes[one].map((code, level) => (same = same && code === items.codes[other][level]));
};

function byCode(among, level) {
  const groups = new Map();
  for (const item of among) {
    const code = items.codes[item][level];
    if (!groups.has(code)) groups.set(code, []);
    groups.get(code).push(item);
  }
  return [...groups].sort(([a], [b]) => a - b);
}

/** Lists items whose IDs are the same down to a level as a tree, the way to one of them open. */
function branch(item, among, level) {
  const nodes = byCode(among, level).map(([code, below]) => {
    const isOwn = below.includes(item);
    if (below.length === 1) return [isOwn, make("li", {}, itemLink(below[0], alike(item, below[0])))];
    const summary = make("summary", {}, chips([code], [isOwn]), ` ${below.length.toLocaleString()} items`);
    const inside = make("details", { open: isOwn }, summary);
    const fill = () => inside.append(branch(item, below, level + 1));
    if (isOwn) fill();
    else inside.addEventListener("toggle", fill, { once: true });
    return [isOwn, make("li", {}, inside)];
  });
  nodes.sort(([a], [b]) => b - a); // its own branch first
  return list("ul", nodes.map(([, node]) => node), MOST_LISTED, "branch");
}

function showItem(item) {
  const about = [items.ids[item], items.categories[item], `${items.counts[item].toLocaleString()} times in training`];
  const parts = [make("h3", {}, title(item)), make("p", { className: "soft" }, about.filter(Boolean).join(" · "))];
  if (items.codes) {
    const id = items.codes[item];
    parts.push(make("p", {}, "Semantic ID ", chips(id)));
    const neighbours = items.neighbours[item].map((other) => make("li", {}, itemLink(other, alike(item, other))));
    parts.push(make("h3", {}, "Nearest items"),
      make("p", { className: "soft" }, "By embeddings, which IDs are made from. Dark codes are those of this item."),
      list("ol", neighbours, MOST_LISTED));
    const among = range(items.ids.length).filter((other) => items.codes[other][0] === id[0]);
    parts.push(make("h3", {}, "Items whose IDs begin with ", chips(id.slice(0, 1), [true])), branch(item, among, 1));
  }
  at("item").replaceChildren(...parts);
}

function find() {
  const words = at("item-search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const matches = range(words.length ? items.ids.length : 0).filter((item) => {
    const text = `${items.titles[item]} ${items.ids[item]}`.toLowerCase();
    return words.every((word) => text.includes(word));
  });
  const lines = matches.slice(0, MOST_FOUND).map((item) => make("li", {}, itemLink(item)));
  at("item-found").replaceChildren(...lines);
  const hidden = matches.length - lines.length;
  at("item-count").textContent = !words.length || (lines.length && !hidden) ? ""
    : hidden ? `and ${hidden.toLocaleString()} more: add words` : "No item on this page has these words.";
}

// Both: what is open stands in the address, so that links and the way back work.

function openUser(number) {
  location.hash = address("user", users[number].id);
}

function openItem(item) {
  showItem(item);
  const panel = at("item").closest(".panel");
  const { top } = panel.getBoundingClientRect();
  if (top < 0 || top > window.innerHeight) panel.scrollIntoView();
  const heading = at("item").firstChild;
  heading.tabIndex = -1;
  heading.focus({ preventScroll: true }); // the link that led here may be gone
}

function openFirst() {
  showUser(0);
  showItem(users[0].target);
}

// Of addresses that are none of these nothing is opened.
const openers = new Map([
  ["", openFirst],
  ...users.map((user, number) => [address("user", user.id), () => showUser(number)]),
  ...items.ids.map((id, item) => [address("item", id), () => openItem(item)]),
]);
const openAddress = () => openers.get(location.hash)?.();

listUsers();
at("user-group").addEventListener("change", () => {
  const [first] = listUsers();
  if (first !== undefined) openUser(first);
});
at("user-choice").addEventListener("change", () => openUser(Number(at("user-choice").value)));
at("user-before").addEventListener("click", () => step(-1));
at("user-next").addEventListener("click", () => step(1));
at("item-search").addEventListener("input", find);
window.addEventListener("hashchange", openAddress);
openFirst();
if (location.hash) openAddress();
