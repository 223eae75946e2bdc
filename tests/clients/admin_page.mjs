// The page to watch, in a real headless Chromium, while a load runs:  node admin_page.mjs REDIS_PORT ADMIN_PORT [DIRECTORY]
// Prints "N passed, N failed"; the exit code is non-zero if anything failed. It empties the server. With a directory it
// leaves screenshots there. puppeteer-core is looked for where the script is started, and brings no browser of its own.
import { execFileSync, spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { expect, finish } from "./check.mjs";

const puppeteer = createRequire(`${process.cwd()}/`)("puppeteer-core");
const [redisPort, adminPort, directory] = process.argv.slice(2);
const origin = `http://127.0.0.1:${adminPort}`;
const cli = (...args) => execFileSync("redis-cli", ["-p", redisPort, ...args], { encoding: "utf8" }).trim();
const stats = async () => (await fetch(`${origin}/stats`)).json();

// A load that is bounded in count and time, and ends with this script.
const loads = [];
function load(test, count) {
  const args = ["-p", redisPort, "-c", "10", "-P", "4", "-t", test, "-n", count, "-r", "100000", "-d", "600", "-q"];
  const child = spawn("timeout", ["90", "redis-benchmark", ...args.map(String)], { stdio: "ignore" });
  loads.push(new Promise((ended) => child.on("exit", ended)));
  process.on("exit", () => child.kill());
}

await expect("flushall", "OK", cli("FLUSHALL"));
await expect("everything is slow", "OK", cli("CONFIG", "SET", "slowlog-log-slower-than", "0"));
await expect("a key with a time to live", "OK", cli("SET", "short", "x", "EX", "300"));
load("set", 600_000);
load("get", 600_000);

const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu"],
});
const page = await browser.newPage();
await page.setViewport({ width: 1440, height: 1000 });
const complaints = [];
const outside = [];
page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
page.on("pageerror", (error) => complaints.push(error.message));
page.on("request", (request) => {
  if (!request.url().startsWith(`${origin}/`) && !request.url().startsWith("data:")) outside.push(request.url());
});
const text = (id) => page.$eval(`#${id}`, (node) => node.textContent);
const until = async (what, test) => {
  for (let i = 0; i < 240; i += 1) {
    if (await test()) return true;
    await new Promise((after) => setTimeout(after, 250));
  }
  return `${what}: not within 60 s`;
};
/** How many colours a canvas shows, and how many of its pixels are of this one or close to it: lines have soft edges. */
const colours = (id, name) => page.$eval(`#${id}`, (node, name) => {
  const { data } = node.getContext("2d").getImageData(0, 0, node.width, node.height);
  const probe = document.createElement("canvas").getContext("2d");
  probe.fillStyle = name ? getComputedStyle(document.documentElement).getPropertyValue(name).trim() : "#000";
  const wanted = parseInt(probe.fillStyle.slice(1), 16);
  const seen = new Set();
  let count = 0;
  for (let i = 0; i < data.length; i += 4) {
    if (data[i + 3] === 0) continue;
    const colour = (data[i] << 16) | (data[i + 1] << 8) | data[i + 2];
    seen.add(colour);
    const apart = [16, 8, 0].map((shift) => Math.abs(((colour >> shift) & 255) - ((wanted >> shift) & 255)));
    if (Math.max(...apart) < 40) count += 1;
  }
  return { distinct: seen.size, count };
}, name);
/** Mean and variance of a screenshot's brightness. */
async function brightness(name) {
  const png = await page.screenshot({ fullPage: true });
  if (directory) writeFileSync(join(directory, `${name}.png`), png);
  const other = await browser.newPage();
  const found = await other.evaluate(async (data) => {
    const image = new Image();
    image.src = data;
    await image.decode();
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [image.width, image.height];
    const context = canvas.getContext("2d");
    context.drawImage(image, 0, 0);
    const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
    let [sum, squares, count] = [0, 0, 0];
    for (let i = 0; i < pixels.length; i += 4) {
      const light = (pixels[i] + pixels[i + 1] + pixels[i + 2]) / 3;
      [sum, squares, count] = [sum + light, squares + light * light, count + 1];
    }
    return { mean: sum / count, variance: squares / count - (sum / count) ** 2 };
  }, `data:image/png;base64,${Buffer.from(png).toString("base64")}`);
  await other.close();
  return found;
}

await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "light" }]);
await page.goto(`${origin}/`);
const rate = () => page.$eval("#ops-now", (node) => Number(node.dataset.value));
await expect("the rate goes up", true, until("a rate", async () => (await rate()) > 1000));
await expect("reads and writes are measured", true, until("latency", async () =>
  (await text("read-p99")).endsWith("s") && (await text("write-p99")).endsWith("s")));
await expect("the charts have several points", true, until("points", () => page.evaluate("S.history.length >= 6")));
await expect("it is ready", "ready", text("state"));
const lines = await Promise.all(["--read", "--write"].map((name) => colours("throughput", name)));
await expect("both lines are drawn", true, lines.every(({ count }) => count > 20));
await expect("latency is drawn", true, colours("latency", "--write").then(({ count }) => count > 20));
await expect("the index is drawn", true, colours("index").then(({ distinct }) => distinct > 3));
const map = await colours("blocks-0", "--write");
await expect("open blocks are drawn", true, map.count > 20 && map.distinct >= 3);
await expect("records are told", true, text("objects").then((shown) => parseFloat(shown) > 1));
await expect("slow commands are told", true, text("slow").then((shown) => /redis.*(SET|GET)/i.test(shown)));
const light = await brightness("light");
await expect("light is light and not blank", true, light.mean > 180 && light.variance > 100);

for (const mode of ["age", "sorted", "fill"]) {
  await page.click(`button[data-mode=${mode}]`);
  await expect(`${mode} is drawn`, true, colours("blocks-0").then(({ distinct }) => distinct >= 3));
}
const box = await page.$eval("#blocks-0", (node) => node.getBoundingClientRect().toJSON());
await page.mouse.move(box.x + 4, box.y + 4);
await expect("a block says what it is", true, text("tip").then((said) => /^block 1: .*\n\d+ % live/.test(said)));

await page.click("#theme");
const dark = await brightness("dark");
await expect("dark is dark and not blank", true, dark.mean < 70 && dark.variance > 100);
await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "dark" }]);
await page.reload();
await expect("the system's choice counts", "dark", page.$eval("html", (node) => node.dataset.theme));

await Promise.all(loads);
cli("CONFIG", "SET", "slowlog-log-slower-than", "10000");
const agrees = async () => {
  const [device] = (await stats()).devices;
  const shown = await Promise.all(Object.keys(device.states).map((name) => text(`count-${name}`)));
  const sum = shown.reduce((total, count) => total + Number(count), 0);
  return sum === device.blocks - 1 && Object.values(device.states).every((count, i) => String(count) === shown[i]);
};
await expect("the counts of states are those of /stats", true, until("the same counts", agrees));
await expect("the time to live is counted", true, until("a count", async () => (await stats()).ttl.counts[1] === 1));

// What a long start looks like: the server's answer, with what it would say then.
const before = await stats();
const loading = { ...before.loading, is_loading: true, phase: "sweeping", percent: 42.4, blocks: 1000, blocks_done: 424, eta_s: 7 };
await page.setRequestInterception(true);
page.on("request", (request) => {
  const body = { ...before, time_ms: Date.now(), state: "loading", devices: [], loading };
  if (request.url() === `${origin}/stats`) request.respond({ contentType: "application/json", body: JSON.stringify(body) });
  else request.continue();
});
await expect("a start is shown", true, until("42.4 %", async () =>
  (await text("recovery-percent")) === "42.4 %" && (await text("state")) === "loading" && (await text("recovery-text")).startsWith("424 of 1000 blocks")));
await expect("its bar is there", true, page.$eval("#recovery", (node) => node.offsetHeight > 20));

await expect("no errors on the console", [], complaints);
await expect("no request goes elsewhere", [], outside);
await browser.close();
finish();
