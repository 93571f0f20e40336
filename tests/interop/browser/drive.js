// SPDX-License-Identifier: MIT
// A browser on a leash: reads commands from standard input, one JSON object a line, and answers each with one line.
'use strict';

const readline = require('readline');
const { chromium } = require(require.resolve('playwright-core', { paths: [process.env.BROWSER_MODULES] }));

let browser, context, page;
let troubles = [];

// What an administrator must not meet, and what a page must not have.
function watch(target) {
  target.on('console', message => {
    if (['error', 'warning'].includes(message.type())) troubles.push(`console: ${message.text()}`);
  });
  target.on('pageerror', error => troubles.push(`script: ${error.message}`));
  // Who goes on before the icon is there aborts it, and that is no trouble.
  target.on('requestfailed', request => {
    const why = request.failure().errorText;
    if (why !== 'net::ERR_ABORTED') troubles.push(`failed: ${request.url()} ${why}`);
  });
  target.on('response', response => {
    if (response.status() >= 400) troubles.push(`status: ${response.status()} ${response.url()}`);
  });
}

// Runs in the page.
function look() {
  const visible = element => element.getClientRects().length > 0;
  const name = element => (element.labels && element.labels.length > 0 && element.labels[0].textContent.trim()) ||
    element.getAttribute('aria-label') || '';
  const luminance = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  // Any colour that CSS can say, as it is drawn.
  const paint = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const rgba = text => {
    paint.clearRect(0, 0, 1, 1);
    paint.fillStyle = text;
    paint.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = paint.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
  const ground = element => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) layers.push(rgba(getComputedStyle(e).backgroundColor));
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]);
  };
  const faint = [];
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].some(node => node.nodeType === Node.TEXT_NODE && node.textContent.trim());
    if (!own || !visible(element) || element.closest('[hidden]')) continue;
    const style = getComputedStyle(element);
    const [a, b] = [luminance(over(rgba(style.color), ground(element))), luminance(ground(element))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) faint.push(`${element.tagName} "${element.textContent.trim().slice(0, 30)}": ${contrast.toFixed(2)}`);
  }
  return {
    title: document.title,
    lang: document.documentElement.lang,
    text: document.body.innerText,
    headings: [...document.querySelectorAll('h1,h2,h3')].map(h => [h.tagName, h.textContent]),
    landmarks: ['header', 'nav', 'main', 'footer'].filter(tag => document.querySelector(tag)),
    unlabelled: [...document.querySelectorAll('input:not([type=hidden]),select,textarea')].filter(e => !name(e)).map(e => e.outerHTML)
      .concat([...document.querySelectorAll('button,a')].filter(e => !e.textContent.trim() && !name(e)).map(e => e.outerHTML))
      .concat([...document.querySelectorAll('img:not([alt])')].map(e => e.outerHTML)),
    captionless: [...document.querySelectorAll('table')].filter(t => !t.caption || !t.caption.textContent.trim()).length,
    scopeless: [...document.querySelectorAll('th')].filter(th => !['row', 'col'].includes(th.scope)).length,
    small: [...document.querySelectorAll('button,input,select')].filter(e => visible(e) && e.getBoundingClientRect().height < 24).length,
    scripts: document.scripts.length,
    timeless: [...document.querySelectorAll('time')].filter(t => !t.dateTime).length,
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    outside: [...document.querySelectorAll('body *')].filter(e => visible(e) && !e.closest('thead') && !e.closest('.skip') &&
      e.getBoundingClientRect().right > document.documentElement.clientWidth + 1).map(e => e.tagName + '.' + e.className).slice(0, 5),
    rows: [...document.querySelectorAll('tbody tr')].map(tr => [...tr.cells].map(cell => cell.innerText.trim())),
    faint,
  };
}

// Runs in the page.
function focused() {
  const element = document.activeElement;
  const style = getComputedStyle(element);
  return { tag: element.tagName, id: element.id, text: element.textContent.trim().slice(0, 60),
    outlined: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2 };
}

const commands = {
  async start() {
    browser = await chromium.launch({ executablePath: process.env.BROWSER, args: ['--no-sandbox'] });
  },
  async open({ width, scheme }) {
    if (context) await context.close();
    context = await browser.newContext({ ignoreHTTPSErrors: true, viewport: { width, height: 900 }, colorScheme: scheme });
    await context.exposeBinding('reportViolation', (source, text) => troubles.push(`policy: ${text}`));
    await context.addInitScript(() => document.addEventListener('securitypolicyviolation',
      event => window.reportViolation(`${event.violatedDirective} ${event.blockedURI}`)));
    page = await context.newPage();
    watch(page);
  },
  async go({ url }) {
    const response = await page.goto(url);
    return { status: response.status(), url: page.url() };
  },
  // The form at the door from now on has this in its head, as if somebody had got it in.
  async inject({ html }) {
    await page.route('**/sign-in', async route => {
      const response = await route.fetch();
      const body = await response.text();
      await route.fulfill({ response, body: body.replace('</head>', html + '</head>') });
    });
  },
  async look() { return page.evaluate(look); },
  async focused() { return page.evaluate(focused); },
  async press({ key, goes }) {
    if (goes) await Promise.all([page.waitForNavigation(), page.keyboard.press(key)]);
    else await page.keyboard.press(key);
    return { url: page.url() };
  },
  async type({ text }) { await page.keyboard.type(text); },
  async select({ selector, value }) { await page.selectOption(selector, value); },
  async click({ selector }) {
    await Promise.all([page.waitForNavigation(), page.click(selector)]);
    return { url: page.url() };
  },
  async cookies() { return context.cookies(); },
  async screenshot({ path }) { await page.screenshot({ path, fullPage: true }); },
  async troubles() {
    const all = troubles;
    troubles = [];
    return all;
  },
  async stop() { await browser.close(); },
};

(async () => {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { command, ...rest } = JSON.parse(line);
    let answer;
    try {
      answer = { value: (await commands[command](rest)) ?? null };
    } catch (error) {
      answer = { error: String(error) };
    }
    process.stdout.write(JSON.stringify(answer) + '\n');
    if (command === 'stop') process.exit(0);
  }
  if (browser) await browser.close();
})();
