// Steps that many specs share. The app starts at its welcome screen in every test.

export const id = (name) => `dev.qgjob.demo:id/${name}`;

export async function signIn(device, name = "Ada") {
  await device.getByText("I have an account").tap();
  await device.getById(id("name"), { exact: true }).fill(name);
  await device.getById(id("password"), { exact: true }).fill("correct horse");
  await device.getById(id("continue"), { exact: true }).tap();
}

export async function addToCart(device, product) {
  await device.getById(id(`item_${product}`), { exact: true }).tap();
  await device.getById(id("add"), { exact: true }).tap();
}

// AppWright before 0.1.46 has no device.screenshot().
export async function screenshot(device) {
  const base64 = device.screenshot ? await device.screenshot() : await device.webdriverClient.takeScreenshot();
  return Buffer.from(base64, "base64");
}
