// The server's page in Chromium: a picture is chosen, labelled, and its classes are listed.
//
//     node page.mjs URL PICTURE SCREENSHOT
//
// Run in web/, whose node_modules has playwright-core. CHROMIUM names the browser.
import { createRequire } from "node:module";
import { resolve } from "node:path";

const require = createRequire(resolve("package.json"));
const { chromium } = require("playwright-core");
const [url, picture, screenshot] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
try {
  const page = await browser.newPage({ viewport: { width: 1280, height: 800 } });
  const errors = [];
  page.on("pageerror", (error) => errors.push(error.message));
  page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
  await page.goto(url);
  await page.setInputFiles("#file", picture);
  await page.waitForSelector("#classes li", { timeout: 60_000 });
  await page.waitForFunction(() => document.getElementById("status").textContent.startsWith("Labelled:"));
  const rows = await page.$$eval("#classes li", (rows) => rows.map((row) => row.textContent));
  await page.screenshot({ path: screenshot });
  await page.setViewportSize({ width: 390, height: 800 });
  await page.screenshot({ path: screenshot.replace(".png", ".narrow.png"), fullPage: true });
  if (errors.length) throw new Error(errors.join("; "));
  if (!rows.some((row) => row.startsWith("Building"))) throw new Error(`no building: ${rows.join("; ")}`);
  console.log(`page: ${rows.join("; ")}`);
} finally {
  await browser.close();
}
